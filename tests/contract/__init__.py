"""What every chat dialect promises, whatever its wire format: one suite, and a case for each dialect.

A case (`cases/<dialect>.py`) puts a neutral description of an answer (`said.Said`) on its wire, after the provider's
documentation and not our code; `test_dialects.py` and `test_requests.py` then ask the same of all of them. Turns are
conversations (`talk.py`), most of them of one call; for longer ones a case says what the other calls are answered with.
The contract of the proto itself is in `tests/test_contract.py`.
"""
