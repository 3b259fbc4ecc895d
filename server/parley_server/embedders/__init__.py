"""A craft: texts made vectors, so that texts of like meaning have vectors of like direction.

`base.py` says what an embedder does. `ngrams.py` needs nothing, `minilm.py` holds a small model, `model.py` asks one of
the gateway's own; `installed.py` tells whether they can.
"""
