"""The theatre: labelled clips of a person in a room, rendered in 3D with MuJoCo.

Everything follows from a seed; nothing is downloaded.
"""
