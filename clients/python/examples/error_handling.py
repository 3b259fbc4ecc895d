"""What can go wrong, and what to do about it."""

import parley

with parley.Client() as client:
    try:
        client.chat("mock/no-such-model", "hello", timeout=10)
    except parley.ModelNotFound as error:
        print(error)  # code, reason, message, and the request ID that the gateway's operator can look up
        print("There are:", ", ".join(model.id for model in client.models()))

    try:
        client.chat("mock/echo", "hello", temperature=9)
    except parley.InvalidRequest as error:
        for violation in error.violations:
            print(violation.field, "→", violation.description)

    # The gateway has tried again already, and fallen back where it may. What is left is yours to decide:
    try:
        with client.stream("mock/echo", "hello", fallbacks=["mock/other"]) as stream:
            print(stream.reply().text)
    except parley.GatewayError as error:
        print("so far:", stream.partial.text)
        if error.retryable:
            print(f"worth another try in {error.retry_after or 1} s")
