"""Text as it comes, in both flavours."""

import asyncio

import parley


def in_threads() -> None:
    with parley.Client() as client, client.stream("mock/echo", "one two three") as stream:
        for text in stream:  # leaving the block early would end the call, at the provider too
            print(text, end="", flush=True)
        reply = stream.reply()
        print(f"\n{reply.finish_reason}, {reply.usage.output_tokens} tokens")


async def in_asyncio() -> None:
    async with parley.AsyncClient() as client, client.stream("mock/echo", "four five six") as stream:
        async for event in stream.events:  # everything: reasoning, tool calls, usage, …
            print(event.sequence, event.WhichOneof("event"))
        print((await stream.reply()).text)


def to_a_file() -> None:
    def show(progress: parley.Progress) -> None:
        print(f"\r{progress.text_chars} characters", end="")

    with parley.Client() as client, client.stream("mock/echo", "seven eight nine", on_progress=show) as stream:
        stream.save_to("answer.txt")  # grows as answer.txt.part, is answer.txt once it is complete
    print()


if __name__ == "__main__":
    in_threads()
    asyncio.run(in_asyncio())
    to_a_file()
