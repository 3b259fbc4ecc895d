"""Layers: functions from service to service, one per file; `assembly.py` puts them in order.

Around every call: Trace, Deadline, Authenticate, Check, Keyed, Cache, Join, Recover, then the Router, the service that
they wrap.
Around every target: Retry, Breaker, Bulkhead, UpstreamLimits, Enough, Observe, Meter, TraceAttempt, Timeout, then the
endpoint.
"""
