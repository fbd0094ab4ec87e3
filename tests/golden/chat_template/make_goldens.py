#!/usr/bin/env python3
"""Makes the chat template goldens: what Jinja says to the templates in templates/.

Pinned: Python 3.11, jinja2 3.1.6; the environment is set up as transformers 5.23.0 does. The
templates are our own, in the constructs of the Llama 3, Qwen2.5, Qwen3, Mistral and ChatML ones.
Run from anywhere:  python3 make_goldens.py     Writes cases.json next to itself.
"""

import datetime
import json
import pathlib

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

assert jinja2.__version__ == "3.1.6", jinja2.__version__
HERE = pathlib.Path(__file__).resolve().parent
NOW = 1717761845  # 2024-06-07 12:04:05 UTC


class Generation(jinja2.ext.Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        call = self.call_method("_render", [])
        return jinja2.nodes.CallBlock(call, [], [], body).set_lineno(line)

    def _render(self, caller):
        return caller()


def make_environment(with_time):
    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                          sort_keys=sort_keys)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    if with_time:
        environment.globals["strftime_now"] = lambda form: datetime.datetime.fromtimestamp(
            NOW, datetime.timezone.utc).strftime(form)
    return environment


def tool(name, **properties):
    return {"type": "function", "function": {
        "name": name, "description": f"Does {name} – \"quoted\" & <tagged>.",
        "parameters": {"type": "object", "properties": properties,
                       "required": list(properties)}, "return": {"type": "number"}}}


def call(name, arguments, call_id="abc123def"):
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


USER = {"role": "user", "content": "  What is 2 + 2? \n"}
SYSTEM = {"role": "system", "content": "Be brief.\n"}
ANSWER = {"role": "assistant", "content": "<think>\nadd\n</think>\n\n4, of course. é😀"}
TOOLS = [tool("add", a={"type": "number"}, b={"type": "number", "items": [1.5, None, True]}),
         tool("weather", city={"type": "string", "enum": ["北京", "Paris"]})]
TALK = [USER, ANSWER, {"role": "user", "content": "And 3 + 3?"}]
CALLS = [SYSTEM, {"role": "user", "content": "Add 1 and 2."},
         {"role": "assistant", "content": "", "tool_calls": [call("add", {"a": 1, "b": 2.0})]},
         {"role": "tool", "content": "3", "tool_call_id": "abc123def", "name": "add"},
         {"role": "assistant", "content": "It is 3."}, {"role": "user", "content": "Thanks"}]
MANY_CALLS = [{"role": "user", "content": "Weather?"},
              {"role": "assistant", "content": "Looking.", "tool_calls": [
                  call("weather", {"city": "北京"}), call("weather", {"city": "Paris"}, "x" * 9)]},
              {"role": "tool", "content": "rain", "tool_call_id": "abc123def"},
              {"role": "tool", "content": "sun", "tool_call_id": "x" * 9}]

CONTEXTS = {
    "one": {"messages": [USER]},
    "system": {"messages": [SYSTEM, USER]},
    "talk": {"messages": TALK},
    "system_talk": {"messages": [SYSTEM] + TALK},
    "no_thinking": {"messages": TALK, "enable_thinking": False},
    "thinking": {"messages": TALK, "enable_thinking": True},
    "no_prompt": {"messages": TALK, "add_generation_prompt": False},
    "continue": {"messages": [USER, ANSWER], "add_generation_prompt": False},
    "reasoning": {"messages": [USER, {"role": "assistant", "content": "4",
                                      "reasoning_content": "\n2+2\n"}]},
    "tools": {"messages": [SYSTEM, USER], "tools": TOOLS},
    "tools_apart": {"messages": [SYSTEM, USER], "tools": TOOLS, "tools_in_user_message": False},
    "tools_no_user": {"messages": [SYSTEM], "tools": TOOLS},
    "calls": {"messages": CALLS, "tools": TOOLS},
    "many_calls": {"messages": MANY_CALLS, "tools": TOOLS},
    "builtin": {"messages": CALLS[:3] + [{"role": "tool", "content": {"out": [1, "é"]}}],
                "builtin_tools": ["add", "code_interpreter", "search"]},
    "date": {"messages": [USER], "date_string": "07 Jun 2024"},
    "time": {"messages": [USER], "current_time_unix_s": NOW},
    "wrong_order": {"messages": [USER, USER]},
    "bad_role": {"messages": [USER, {"role": "critic", "content": "no"}]},
    "null_content": {"messages": [USER, {"role": "assistant", "content": None,
                                         "tool_calls": [call("add", "{\"a\": 1}")]}]},
    "missing_content": {"messages": [{"role": "user"}]},
    "no_messages": {"messages": []},
    "unicode": {"messages": [{"role": "user", "content": "\u00a0é 👨\u200d👩\u200d👧 שלום\u3000\n\r\n\t"}]},
}


def main():
    templates = {path.stem: path.read_text(encoding="utf-8")
                 for path in sorted((HERE / "templates").glob("*.jinja"))}
    cases = []
    for name, source in templates.items():
        for context_name, context in CONTEXTS.items():
            context = {"add_generation_prompt": True, "bos_token": "<s>", "eos_token": "</s>",
                       **context}
            case = {"template": name, "context": context_name}
            environment = make_environment("current_time_unix_s" in context)
            try:
                case["text"] = environment.from_string(source).render(**context)
            except jinja2.exceptions.TemplateError as error:
                undefined = isinstance(error, jinja2.exceptions.UndefinedError)
                case["error"] = "" if undefined else str(error)
            except TypeError:
                case["error"] = ""
            cases.append(case)
            CONTEXTS[context_name] = context
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
    contexts = ",\n".join(f"{json.dumps(name)}: {json.dumps(context, ensure_ascii=False)}"
                          for name, context in CONTEXTS.items())
    (HERE / "cases.json").write_text(
        f'{{"contexts": {{\n{contexts}\n}},\n"cases": [\n{lines}\n]}}\n', encoding="utf-8")
    print(len(cases), "cases,", sum("error" in c for c in cases), "errors")


if __name__ == "__main__":
    main()
