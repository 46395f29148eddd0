"""The published finetuning stages: what a stage trains and how (`config`), one micro-batch's loss (`batch`, `learner`),
the loop (`trainer`, `journal`), and what comes out of it (`artefact`, `merge`).
"""
