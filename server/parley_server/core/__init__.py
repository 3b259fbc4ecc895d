"""What every room shares: errors, context, service, reply, usage. Imports only the standard library and `parley.v1`."""
