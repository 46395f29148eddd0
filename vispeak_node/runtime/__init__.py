"""A live session: cache, trigger and speaking over a stream of events.

Imports `model` and `stream`; knows nothing of ROS.
"""
