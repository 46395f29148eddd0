"""What a person runs that needs no graph: watch a file, check a checkpoint, draw a timeline, run the demo.

One module a command, each with `add_arguments(parser)` and `run(args)`; nothing else imports this package.
"""
