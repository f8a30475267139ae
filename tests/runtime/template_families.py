"""Small chat templates in the manner of the families in use, and the control texts of their vocabularies."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from typing import Any

import jinja2
import jinja2.nodes
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment

from runtime.engine.templates.template import ChatTemplate


@dataclass(frozen=True)
class Family:
    source: str
    control_texts: tuple[str, ...]
    bos_text: str = "<s>"
    eos_text: str = "</s>"
    tools: bool = True
    """Whether it has a place for tools and their results."""

    @property
    def template(self) -> ChatTemplate:
        return ChatTemplate(self.source, self.bos_text, self.eos_text, self.control_texts)


CHATML = Family(
    """\
{%- set talk = messages %}
{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}
        {{- messages[0].content + '\\n\\n' }}
        {%- set talk = messages[1:] %}
    {%- endif %}
    {%- for tool in tools %}{{ tool | tojson }}{{ '\\n' }}{% endfor %}
    {{- '<|im_end|>\\n' }}
{%- endif %}
{%- for message in talk %}
    {%- if message.role == 'tool' %}
        {{- '<|im_start|>user\\n<tool_response>\\n' + message.content + '\\n</tool_response><|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content }}
        {%- for call in message.tool_calls or [] %}
            {{- '\\n<tool_call>\\n' }}{{ call.function | tojson }}{{ '\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{{- '<|im_start|>assistant\\n' if add_generation_prompt }}
""",
    ("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<s>", "</s>", "<unk>"),
)

THINKING = Family(
    """\
{%- for message in messages %}
    {%- set content = message.content %}
    {%- set thoughts = message.reasoning_content or '' %}
    {%- if message.role == 'assistant' and '</think>' in content %}
        {%- set thoughts = content.split('</think>')[0].replace('<think>', '').strip() %}
        {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
    {%- endif %}
    {%- if message.role == 'assistant' and loop.last and thoughts %}
        {%- set content = '<think>\\n' + thoughts + '\\n</think>\\n' + content %}
    {%- endif %}
    {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>\\n' }}
{%- endfor %}
{{- '<|im_start|>assistant\\n' if add_generation_prompt }}
{{- '<think>\\n\\n</think>\\n' if enable_thinking is defined and enable_thinking is false }}
""",
    ("<|im_start|>", "<|im_end|>", "<|endoftext|>"),
    tools=False,
)

LLAMA = Family(
    """\
{{- bos_token }}
{%- for message in messages %}
    {%- set role = 'ipython' if message.role == 'tool' else message.role %}
    {{- '<|start_header_id|>' + role + '<|end_header_id|>\\n\\n' }}
    {%- if tools and loop.first %}{{ 'Functions: ' }}{{ tools | tojson(indent=2) }}{{ '\\n' }}{% endif %}
    {%- if message.tool_calls %}
        {%- for call in message.tool_calls %}
            {{- '<|python_tag|>{"name": "' + call.function.name + '", "parameters": ' }}
            {{- call.function.arguments | tojson }}{{ '}' }}
        {%- endfor %}
    {%- else %}
        {{- message.content | trim }}
    {%- endif %}
    {{- '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}
""",
    (
        *("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        *("<|python_tag|>", *(f"<|reserved_special_token_{number}|>" for number in range(20))),
    ),
    bos_text="<|begin_of_text|>",
    eos_text="<|eot_id|>",
)

GEMMA = Family(
    """\
{{ bos_token }}
{%- if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}
{%- for message in messages %}
    {%- if (message.role == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('Roles must alternate') }}
    {%- endif %}
    {{- '<start_of_turn>' + ('model' if message.role == 'assistant' else message.role) + '\\n' }}
    {{- message.content | trim + '<end_of_turn>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}
""",
    ("<bos>", "<eos>", "<unk>", "<pad>", "<start_of_turn>", "<end_of_turn>", "[multimodal]"),
    bos_text="<bos>",
    eos_text="<eos>",
    tools=False,
)

MISTRAL = Family(
    """\
{{- bos_token }}
{%- if tools %}{{ '[AVAILABLE_TOOLS]' }}{{ tools | tojson }}{{ '[/AVAILABLE_TOOLS]' }}{% endif %}
{%- for message in messages %}
    {%- if message.role == 'user' %}
        {{- '[INST]' + message.content + '[/INST]' }}
    {%- elif message.role == 'system' %}
        {{- '[SYSTEM_PROMPT]' + message.content + '[/SYSTEM_PROMPT]' }}
    {%- elif message.role == 'tool' %}
        {{- '[TOOL_RESULTS]{"content": ' }}{{ message.content | tojson }}
        {{- ', "call_id": "' + message.tool_call_id + '"}[/TOOL_RESULTS]' }}
    {%- elif message.tool_calls %}
        {{- '[TOOL_CALLS][' }}
        {%- for call in message.tool_calls %}
            {%- if call.id | length != 9 %}{{ raise_exception('IDs must have length 9') }}{% endif %}
            {{- {'name': call.function.name, 'arguments': call.function.arguments, 'id': call.id} | tojson }}
        {%- endfor %}
        {{- ']' + eos_token }}
    {%- else %}
        {{- message.content + eos_token }}
    {%- endif %}
{%- endfor %}
""",
    (
        *("<s>", "</s>", "<unk>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]"),
        *("[TOOL_CALLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"),
    ),
)

PHI = Family(
    """\
{% for message in messages %}{% if message.role in ['system', 'user', 'assistant'] %}
{{ '<|' + message.role + '|>\\n' + message.content + '<|end|>\\n' }}{% endif %}{% endfor %}
{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}
""",
    ("<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|tool|>"),
    eos_text="<|endoftext|>",
    tools=False,
)

XML = Family(
    """\
{%- for tool in tools or [] %}
    {{- '<' + tool.function.name + '>' }}{{ tool.function.parameters | tojson }}
{%- endfor %}
{%- for message in messages %}
    {{- '<|' + message.role + '|>' + message.content }}
    {%- for call in message.tool_calls or [] %}
        {{- '<call:' + call.function.name + '>' }}
        {%- for key, value in call.function.arguments.items() %}
            {{- '<' + key + '>' + (value if value is string else value | tojson) + '</' + key + '>' }}
        {%- endfor %}
    {%- endfor %}
    {{- '<|end|>' }}
{%- endfor %}
""",
    ("<s>", "</s>", "<pad>", "<unk>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>"),
)
"""Builds tags around argument names: ``s`` would become ``<s>``."""

FAMILIES = {
    "chatml": CHATML,
    "thinking": THINKING,
    "llama": LLAMA,
    "gemma": GEMMA,
    "mistral": MISTRAL,
    "phi": PHI,
    "xml": XML,
}


class _Generation(Extension):
    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Any) -> jinja2.nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_passed"), [], [], body).set_lineno(line)

    def _passed(self, caller: Any) -> str:
        return str(caller())


@functools.lru_cache
def _reference(source: str) -> jinja2.Template:
    def refuse(message: str) -> str:
        raise jinja2.TemplateError(message)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = lambda value, **options: json.dumps(
        value, **{"ensure_ascii": False, **options}
    )
    environment.globals["raise_exception"] = refuse
    return environment.from_string(source)


def reference_rendering(family: Family, messages: list[dict[str, Any]], **variables: Any) -> str:
    """What ``transformers`` makes of a conversation: an environment like its own."""
    tokens = {"bos_token": family.bos_text, "eos_token": family.eos_text}
    return _reference(family.source).render(
        messages=messages, **{"add_generation_prompt": True, **tokens, **variables}
    )
