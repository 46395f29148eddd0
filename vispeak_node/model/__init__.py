"""The mathematics of ViSpeak: encoders, two-stream Qwen2, heads, tokens, checkpoints.

Knows nothing of time or ROS; devices arrive as arguments.
"""
