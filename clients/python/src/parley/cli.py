"""`parley`: talk to a gateway from the terminal.

Answers go to standard output, everything about them (reasoning, tokens, cost, errors) to standard error, so that a pipe
carries the answer and nothing else.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Annotated, NoReturn

try:
    import typer
    from rich.console import Console
    from rich.table import Table
except ImportError as missing:
    sys.exit(f"parley: {missing.name} is not installed; `pip install 'parley-client[cli]'` brings it")
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

import parley
from parley import v1
from parley.files import growing_file
from parley.reply import Embeddings, Ranking, Reply
from parley.request import ChatArguments, EmbedArguments, RerankArguments

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help=(
        "Talk to a Parley gateway.\n\n"
        "It is at --address, else at PARLEY_ADDRESS, else at 127.0.0.1:50051; a token is read from PARLEY_TOKEN. "
        "A prompt may be piped in. Exit codes: 0 done, 1 the call failed, 2 wrong usage, 3 nobody there or try again "
        "later, 130 interrupted."
    ),
)

Model = Annotated[str, typer.Argument(help="Model, such as mock/echo; `parley models` lists them.", show_default=False)]
Text = Annotated[str | None, typer.Argument(metavar="PROMPT", help="What to say; what is piped in is added to it.")]
Address = Annotated[str | None, typer.Option("--address", "-a", help="host:port of the gateway.", show_default=False)]
Tls = Annotated[bool | None, typer.Option("--tls/--no-tls", help="Encrypt the connection.", show_default=False)]
Timeout = Annotated[float | None, typer.Option(min=0.001, help="Seconds for the call.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Write JSON, as the API has it.")]
System = Annotated[str | None, typer.Option("--system", "-s", help="System instructions.", show_default=False)]
Temperature = Annotated[float | None, typer.Option("--temperature", "-t", help="0 to 2.", show_default=False)]
MaxTokens = Annotated[int | None, typer.Option("--max-tokens", help="Most tokens to generate.", show_default=False)]
Images = Annotated[
    list[Path] | None,
    typer.Option("--image", "-i", exists=True, dir_okay=False, help="Image to look at; may be repeated."),
]
Documents = Annotated[
    list[Path] | None,
    typer.Option("--document", "-d", exists=True, dir_okay=False, help="Document to read; may be repeated."),
]


@app.command()
def chat(
    model: Model,
    prompt: Text = None,
    system: System = None,
    temperature: Temperature = None,
    max_tokens: MaxTokens = None,
    image: Images = None,
    document: Documents = None,
    as_json: AsJson = False,
    address: Address = None,
    tls: Tls = None,
    timeout: Timeout = None,
) -> None:
    """Ask a model and print the whole answer when it is there."""
    messages = _messages(prompt, system, image, document)
    with _gateway(address, tls) as client:
        reply = client.chat(model, messages, **_arguments(temperature, max_tokens, timeout))
    if as_json:
        _json(reply.raw)
        return
    screen = Screen()
    screen.aside(reply.reasoning)
    screen.text(reply.text or reply.refusal)
    screen.end(reply)


@app.command()
def stream(
    model: Model,
    prompt: Text = None,
    system: System = None,
    temperature: Temperature = None,
    max_tokens: MaxTokens = None,
    image: Images = None,
    document: Documents = None,
    save_to: Annotated[Path | None, typer.Option(help="Also write the text to this file.", show_default=False)] = None,
    as_json: AsJson = False,
    address: Address = None,
    tls: Tls = None,
    timeout: Timeout = None,
) -> None:
    """Ask a model and print the answer as it comes. With --json: one event a line."""
    messages = _messages(prompt, system, image, document)
    screen = Screen()
    arguments = _arguments(temperature, max_tokens, timeout)
    with (
        _gateway(address, tls) as client,
        screen,
        _saving(save_to) as save,
        client.stream(model, messages, **arguments) as answer,
    ):
        for event in answer.events:
            if as_json:
                _json(event, indent=None)
            else:
                screen.aside(event.part_delta.reasoning)
                screen.text(event.part_delta.text)
            save(event.part_delta.text)
        if not as_json:
            screen.end(answer.partial)


@app.command()
def embed(
    model: Model,
    texts: Annotated[list[str] | None, typer.Argument(help="Texts; or one a line, piped in.")] = None,
    dimensions: Annotated[int | None, typer.Option(help="Wanted dimensions.", show_default=False)] = None,
    as_json: AsJson = False,
    address: Address = None,
    tls: Tls = None,
    timeout: Timeout = None,
) -> None:
    """Turn texts into vectors: one JSON array a line; in a terminal only how they begin."""
    inputs = [*(texts or []), *_piped().splitlines()]
    if not inputs:
        _usage("nothing to embed: give texts, or pipe them in, one a line")
    arguments: EmbedArguments = {}
    if dimensions is not None:
        arguments["dimensions"] = dimensions
    if timeout is not None:
        arguments["timeout"] = timeout
    with _gateway(address, tls) as client:
        embeddings = client.embed(model, inputs, **arguments)
    if as_json:
        usage = MessageToDict(embeddings.usage)
        _print(json.dumps({"model": embeddings.model, "embeddings": embeddings.vectors, "usage": usage}))
        return
    screen = Screen()
    for vector in embeddings.vectors:
        if screen.out.is_terminal:
            begin = ", ".join(f"{value:.4f}" for value in vector[:6])
            _print(f"[{begin}{', …' if len(vector) > 6 else ''}]  {len(vector)} dimensions")
        else:
            _print(json.dumps(vector))
    screen.costs(embeddings)


@app.command()
def rerank(
    model: Model,
    query: Annotated[str, typer.Argument(help="What the documents are judged by.", show_default=False)],
    documents: Annotated[list[str] | None, typer.Argument(help="Documents; or one a line, piped in.")] = None,
    top_n: Annotated[int | None, typer.Option("--top-n", "-n", help="Only the best ones.", show_default=False)] = None,
    as_json: AsJson = False,
    address: Address = None,
    tls: Tls = None,
    timeout: Timeout = None,
) -> None:
    """Order documents by how well they answer a query: score, number and text, parted by tabs, best first."""
    given = [*(documents or []), *filter(None, _piped().splitlines())]
    if not given:
        _usage("nothing to rank: give documents, or pipe them in, one a line")
    arguments: RerankArguments = {}
    if top_n is not None:
        arguments["top_n"] = top_n
    if timeout is not None:
        arguments["timeout"] = timeout
    with _gateway(address, tls) as client:
        ranking = client.rerank(model, query, given, **arguments)
    if as_json:
        usage = MessageToDict(ranking.usage)
        results = [{"index": one.index, "score": one.score, "document": one.document} for one in ranking]
        _print(json.dumps({"model": ranking.model, "results": results, "usage": usage}, ensure_ascii=False))
        return
    screen = Screen()
    for one in ranking:
        line = f"{one.score:.6f}\t{one.index}\t{' '.join(one.document.split())}"
        _print(_visible(line) if screen.out.is_terminal else line)
    for warning in ranking.warnings:
        screen.err.print(_visible(f"warning: {warning.message}"), style="yellow")
    screen.costs(ranking)


@app.command()
def models(
    provider: Annotated[str, typer.Option(help="Only this provider's.")] = "",
    operation: Annotated[str, typer.Option(help="Only models that do this: chat, embed or rerank.")] = "",
    capability: Annotated[list[str] | None, typer.Option(help="Only models that can do this; may be repeated.")] = None,
    as_json: AsJson = False,
    address: Address = None,
    tls: Tls = None,
) -> None:
    """List the models that can be asked. In a pipe: one a line, columns parted by tabs."""
    with _gateway(address, tls) as client:
        found = list(client.models(provider=provider, operation=operation, capabilities=capability or []))
    if as_json:
        _print(json.dumps([MessageToDict(model) for model in found], ensure_ascii=False, indent=2))
        return
    rows = [
        (
            model.id,
            ",".join(model.operations),
            str(model.limits.context_tokens) if model.limits.HasField("context_tokens") else "",
            _price(model.pricing, "input_nano_usd"),
            _price(model.pricing, "output_nano_usd"),
            v1.Model.State.Name(model.state).removeprefix("STATE_").lower().replace("unspecified", ""),
        )
        for model in found
    ]
    screen = Screen()
    if not screen.out.is_terminal:
        for row in rows:
            _print("\t".join(row))
        return
    table = Table("model", "does", box=None, header_style="bold", pad_edge=False)
    for title in ("context", "$/M in", "$/M out"):
        table.add_column(title, justify="right")
    table.add_column("state")
    for row in rows:
        table.add_row(*map(_visible, row))
    screen.out.print(table, highlight=False, markup=False)


@app.command()
def health(
    service: Annotated[str, typer.Argument(help="Name to ask for, such as readiness.")] = "parley.v1.GatewayService",
    as_json: AsJson = False,
    address: Address = None,
    tls: Tls = None,
) -> None:
    """Ask the gateway how it is. Exit code 0: serving, 1: not serving, 3: nobody there."""
    with _gateway(address, tls) as client:
        state = client.health(service)
    _print(json.dumps({"service": service, "health": state}) if as_json else state)
    raise typer.Exit(0 if state is parley.Health.SERVING else 1)


class Screen:
    """Where answers and remarks go. Colours and the like only where a person looks."""

    def __init__(self) -> None:
        self.out = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
        self.err = Console(stderr=True, soft_wrap=True, highlight=False, markup=False, emoji=False)
        self._at_start = True  # of a line, where the answer is
        self._aside = False  # in the midst of reasoning

    def text(self, text: str) -> None:
        """More of the answer, at once."""
        if not text:
            return
        if self._aside:
            self.newline()
            self.err.print()
        sys.stdout.write(_visible(text) if self.out.is_terminal else text)
        sys.stdout.flush()
        self._at_start = text.endswith("\n")

    def aside(self, text: str) -> None:
        """More of the reasoning; for people only."""
        if text and self.err.is_terminal:
            if not self._aside:
                self.newline()
            self.err.print(_visible(text), style="dim", end="")
            self._aside = True

    def newline(self) -> None:
        """Begin a line, if one is not just beginning."""
        if self._aside:
            self.err.print()
        elif not self._at_start:
            _print("")
        self._aside, self._at_start = False, True

    def __enter__(self) -> Screen:
        return self

    def __exit__(self, *error: object) -> None:
        self.newline()  # what comes after a broken answer, or after Ctrl-C, has a line of its own

    def end(self, reply: Reply) -> None:
        """What there is to say about an answer."""
        self.newline()
        for call in reply.tool_calls:
            _print(_visible(f"{call.name}({call.arguments_json})"))
        for warning in reply.warnings:
            self.err.print(_visible(f"warning: {warning.message}"), style="yellow")
        if reply.finish_reason not in ("stop", "tool_call"):
            self.err.print(f"ended: {reply.finish_reason.value}", style="yellow")
        self.costs(reply)

    def costs(self, answer: Reply | Embeddings | Ranking) -> None:
        """Tokens, cost and who answered, in one line, for people only."""
        if not self.err.is_terminal:
            return
        usage = answer.usage
        notes = [f"{usage.input_tokens} tokens in" if usage.HasField("input_tokens") else ""]
        notes.append(f"{usage.output_tokens} out" if usage.HasField("output_tokens") else "")
        notes.append(f"${answer.cost.normalize():f}" if answer.cost is not None else "")
        notes.append("/".join(filter(None, (answer.route.provider, answer.route.model))))
        if answer.route.HasField("total_duration"):
            notes.append(f"{answer.route.total_duration.ToNanoseconds() / 1e9:.2f} s")
        self.err.print(_visible(" · ".join(note for note in notes if note)), style="dim")


def _messages(
    prompt: str | None, system: str | None, images: list[Path] | None, documents: list[Path] | None
) -> list[v1.Message]:
    """The conversation that the arguments and standard input describe."""
    text = "\n\n".join(filter(None, (prompt, _piped().rstrip("\n"))))
    parts: list[v1.Part] = []
    try:
        parts += [*map(parley.image, images or []), *map(parley.document, documents or [])]
    except (ValueError, OSError) as error:
        _usage(str(error))
    if not text and not parts:
        _usage("nothing to say: give a prompt, or pipe one in")
    if text:
        parts.append(v1.Part(text=text))
    return [*([parley.system(system)] if system else []), parley.user(*parts)]


def _arguments(temperature: float | None, max_tokens: int | None, timeout: float | None) -> ChatArguments:
    given: ChatArguments = {}
    if temperature is not None:
        given["temperature"] = temperature
    if max_tokens is not None:
        given["max_output_tokens"] = max_tokens
    if timeout is not None:
        given["timeout"] = timeout
    return given


@contextmanager
def _gateway(address: str | None, tls: bool | None) -> Iterator[parley.Client]:
    """A client whose errors become one readable message and an exit code."""
    try:
        client = parley.Client(address, tls=tls)
    except ValueError as error:
        _usage(str(error))
    try:
        with client:
            yield client
    except parley.GatewayError as error:
        _fail(str(error), 3 if error.retryable else 1)
    except (parley.ParleyError, OSError) as error:
        if isinstance(error, BrokenPipeError):  # whoever read this has seen enough
            raise
        _fail(str(error), 1)


def _saving(path: Path | None) -> AbstractContextManager[Callable[[str], object]]:
    return growing_file(path) if path else nullcontext(len)  # len: takes a text, does nothing


def _fail(text: str, code: int) -> NoReturn:
    Console(stderr=True, soft_wrap=True, highlight=False, markup=False).print(_visible(f"error: {text}"), style="red")
    raise typer.Exit(code)


def _piped() -> str:
    """What was piped in; nothing in a terminal, or where standard input is closed."""
    return "" if sys.stdin is None or sys.stdin.isatty() else sys.stdin.read()


def _price(pricing: v1.ModelPricing, field: str) -> str:
    return f"{getattr(pricing, field) / 1e9:g}" if pricing.HasField(field) else ""  # type: ignore[arg-type]


_CONTROLS = {code: "\N{REPLACEMENT CHARACTER}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


def _visible(text: str) -> str:
    """`text` without control characters: what a model writes must not steer the terminal."""
    return text.translate(_CONTROLS)


def _print(text: str) -> None:
    print(text, flush=True)


def _json(message: Message, indent: int | None = 2) -> None:
    _print(json.dumps(MessageToDict(message), ensure_ascii=False, indent=indent))


def _usage(text: str) -> NoReturn:
    raise typer.BadParameter(text)


def main() -> None:
    """Entry point of the command."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # noqa: TID251  # its log is not for whoever sits at the terminal
    app(prog_name="parley")


if __name__ == "__main__":
    main()
