"""The edge: gRPC in, proto messages to the pipeline, statuses and events out."""
