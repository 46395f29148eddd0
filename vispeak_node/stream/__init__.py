"""Time: frames, sound and text with source stamps become events in order.

Knows nothing of models or ROS.
"""
