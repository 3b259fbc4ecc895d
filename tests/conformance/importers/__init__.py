"""From recorded request bodies to requests of `parley.v1`, written without a look at the encoders they test."""
