"""Models that a study leaves behind, put to use: found, exported, embedding, searched, measured.

A model here is something that turns pixels into embeddings: the fold model of one run, the joined
fold models, or a peer's file. Nothing in this room trains, and nothing in it chooses anything.
The packages faiss and onnx are imported in one file each.
"""
