"""Benchmarks: ViSpeak-Bench on published annotations or on a theatre split of the same format.

Reads annotations, runs a session over clips, judges what it said and when, and puts trivial baselines beside it.
"""
