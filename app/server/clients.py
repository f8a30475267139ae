"""Settings that make programs use the endpoint, as their own files and menus have them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """Where the endpoint is. ``url`` ends in ``/v1``; ``key`` is a placeholder where none is needed."""

    url: str
    model: str
    key: str

    @property
    def root(self) -> str:
        """The address without ``/v1``."""
        return self.url.removesuffix("/v1")


@dataclass(frozen=True)
class Client:
    """A program: what it is called, where its settings go, and what they are."""

    name: str
    title: str
    place: str
    settings: Callable[[Target], str]


def _shell(target: Target) -> str:
    return f"export OPENAI_BASE_URL={target.url}\nexport OPENAI_API_KEY={target.key}"


def _python(target: Target) -> str:
    return (
        "from openai import OpenAI\n\n"
        f'client = OpenAI(base_url="{target.url}", api_key="{target.key}")\n'
        "answer = client.chat.completions.create(\n"
        f'    model="{target.model}", messages=[{{"role": "user", "content": "Hello"}}]\n'
        ")\n"
        "print(answer.choices[0].message.content)"
    )


def _javascript(target: Target) -> str:
    return (
        'import OpenAI from "openai";\n\n'
        f'const client = new OpenAI({{ baseURL: "{target.url}", apiKey: "{target.key}" }});\n'
        "const answer = await client.chat.completions.create({\n"
        f'  model: "{target.model}", messages: [{{ role: "user", content: "Hello" }}],\n'
        "});\n"
        "console.log(answer.choices[0].message.content);"
    )


def _curl(target: Target) -> str:
    return (
        f"curl {target.url}/chat/completions -H 'Content-Type: application/json' \\\n"
        f"  -H 'Authorization: Bearer {target.key}' \\\n"
        f"""  -d '{{"model": "{target.model}", "messages": [{{"role": "user", "content": "Hello"}}]}}'"""
    )


def _anthropic(target: Target) -> str:
    return (
        f"export ANTHROPIC_BASE_URL={target.root}\nexport ANTHROPIC_API_KEY={target.key}\n"
        f"export ANTHROPIC_MODEL={target.model}"
    )


def _continue(target: Target) -> str:
    return (
        "models:\n"
        f"  - name: {target.model} (localq)\n"
        "    provider: openai\n"
        f"    model: {target.model}\n"
        f"    apiBase: {target.url}\n"
        f"    apiKey: {target.key}\n"
        "    roles: [chat, edit, apply]"
    )


def _zed(target: Target) -> str:
    provider = {
        "api_url": target.url,
        "available_models": [{"name": target.model, "display_name": target.model, "max_tokens": 8192}],
    }
    settings = {"language_models": {"openai_compatible": {"localq": provider}}}
    return json.dumps(settings, indent=2) + f"\n\nexport LOCALQ_API_KEY={target.key}"


def _aider(target: Target) -> str:
    return (
        f"export OPENAI_API_BASE={target.url}\nexport OPENAI_API_KEY={target.key}\n"
        f"aider --model openai/{target.model}"
    )


def _open_webui(target: Target) -> str:
    return f"OPENAI_API_BASE_URL={target.url}\nOPENAI_API_KEY={target.key}\nENABLE_OLLAMA_API=false"


def _langchain(target: Target) -> str:
    return (
        "from langchain_openai import ChatOpenAI, OpenAIEmbeddings\n\n"
        f'chat = ChatOpenAI(base_url="{target.url}", api_key="{target.key}", model="{target.model}")\n'
        "vectors = OpenAIEmbeddings(\n"
        f'    base_url="{target.url}", api_key="{target.key}", model="{target.model}",\n'
        "    check_embedding_ctx_length=False,\n)"
    )


CLIENTS = (
    Client("shell", "OpenAI SDKs, by the environment", "a shell, or .env", _shell),
    Client("python", "OpenAI's Python package", "a script", _python),
    Client("javascript", "OpenAI's npm package", "a script", _javascript),
    Client("curl", "curl", "a shell", _curl),
    Client("anthropic", "Anthropic SDKs, by the environment", "a shell, or .env", _anthropic),
    Client("continue", "Continue", "~/.continue/config.yaml", _continue),
    Client("zed", "Zed", "settings.json; the key in the environment", _zed),
    Client("aider", "aider", "a shell", _aider),
    Client("open-webui", "Open WebUI", "its environment", _open_webui),
    Client("langchain", "LangChain", "a script", _langchain),
)
BY_NAME = {client.name: client for client in CLIENTS}
