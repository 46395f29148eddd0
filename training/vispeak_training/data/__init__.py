"""Training data in the published formats: records, media, the two streams position by position, and checks.

`dataset.TrainingSet` gives samples; `commands` holds what a person runs over a registry before training.
"""
