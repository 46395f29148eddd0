"""Frames that outlive the context, as projector inputs, within a budget in bytes.

One interface (`policies.FeatureMemory`), three policies: none, window, pyramid.
"""
