"""Layers: functions from service to service, one per file; `app.py` puts them in order.

Around every call: Trace, Deadline, Check, then the Router, which is the service they wrap.
Around every target: Retry, Meter, TraceAttempt, Timeout, then the endpoint.
"""
