"""Puts the catalogue of models together. For developers: no part of the server, and not in its wheel.

`make catalog` reads two packages that are data to us, genai-prices and LiteLLM's model map, and `corrections.yaml`,
which is ours, and writes `parley_server/catalog/models.json`. What wins where they differ is in decision 0012. Nothing
here contacts anybody: new data comes with new pins in `requirements.in`.
"""
