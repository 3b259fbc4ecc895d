"""A model that calls Python functions."""

import sys
from typing import Literal

import parley


def weather(city: str, unit: Literal["C", "F"] = "C") -> dict[str, object]:
    """The weather now.

    Args:
        city: Name of the city, in English.
        unit: Unit of the temperature.
    """
    if city == "Atlantis":
        raise parley.ToolError("no such city")  # the model is told; any other exception would end the run
    return {"city": city, "temperature": 21, "unit": unit}


def main(model: str) -> None:
    with parley.Client() as client:
        run = client.run_tools(
            model,
            "What is the weather in Oslo?",
            tools=[weather],
            on_call=lambda call: print(f"→ {call.name}({call.arguments_json})"),
            tool_choice="auto",
        )
        print(run.text)
        print(f"{len(run.replies)} turns, cost: {run.cost}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "mock/echo")  # a model that uses tools makes it more interesting
