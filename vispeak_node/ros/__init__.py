"""The ROS 2 graph: messages, transports and the node that carries a session.

Nothing else in the project imports this package.
"""
