"""vispeak_node: a streaming assistant that watches, listens and decides by itself when to speak.

`stream` puts time in order, `model` is the mathematics, `runtime` is a live session, `ros` is the graph.
"""

__version__ = "0.1.0"
