"""The shortest conversation. Start a gateway first: `make run`."""

import parley

with parley.Client() as client:  # at PARLEY_ADDRESS, else at 127.0.0.1:50051
    reply = client.chat("mock/echo", "hello")
    print(reply.text)

    # To go on, send the reply back in its place. What the provider needs to recognise it travels along.
    reply = client.chat("mock/echo", [parley.system("Be brief."), "hello", reply, "and goodbye"], temperature=0.2)
    print(reply.text, reply.finish_reason, reply.usage.output_tokens, reply.cost)
