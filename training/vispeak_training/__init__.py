"""Training: the synthetic theatre, stream builders and the recipe of the small checkpoint.

Imports `vispeak_node.model` (and `runtime` for evaluation); knows nothing of ROS.
"""
