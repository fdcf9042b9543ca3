"""The tokens of a prompt, as text to continue or inside the tokenizer's chat template.

Templates differ in ways that matter here. Some reject a system message, or leave it out; then the system message is put
in front of the prompt. Templates for images take a text as a part of the content. Some add BOS themselves. Some end the
prompt with the opening tag of the reasoning, so that the completion starts inside it. The names of the switches for
reasoning differ as well.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import uuid4

from cos_assets.generation.tokens import completion_ids, control, names, per_tokenizer, spells_control, text_ids, words
from cos_assets.generation.types import Chat
from cos_assets.grading.reasoning import opened, tags_in

_SLOT = "\ue000\ue001\ue000"  # placeholder for a text in a rendered template: private-use characters
_SWITCHES = ("enable_thinking", "thinking", "add_thinking", "enable_reasoning")
"""Arguments of chat templates that turn reasoning on or off: Qwen3, GLM and Hunyuan; DeepSeek and Granite; others."""
_FIELDS = ("reasoning_content", "reasoning", "thinking")  # where templates look for the reasoning of a message
THINK = "<think>", "</think>"
"""The tags of a model whose template has none."""


def prompt_ids(tokenizer: Any, prompt: str, chat: Chat | None = None) -> list[int]:
    """Return the prompt's tokens, with the special tokens that the tokenizer prepends (BOS) and without a final EOS.

    Parameters
    ----------
    tokenizer : transformers tokenizer
        The tokenizer of the model.
    prompt : str
        The text.
    chat : Chat, optional
        The other inputs of the chat template, if the prompt is a user message in it. The tokens then include the start
        of the reply.

    Raises
    ------
    ValueError
        If the tokenizer has no template, if the template leaves the prompt out or cannot turn reasoning off, or if a
        text spells out a control token that cannot be distinguished from the template's own.

    Examples
    --------
    >>> from cos_assets.tiny.tokenizer import word_tokenizer
    >>> tokenizer = word_tokenizer()
    >>> tokenizer.convert_ids_to_tokens(prompt_ids(tokenizer, "2 + 3 = ?"))
    ['2', '+', '3', '=', '?']
    """
    if chat is not None:
        return _chat_ids(tokenizer, prompt, chat)
    ids = text_ids(tokenizer, prompt)
    if ids and tokenizer.eos_token_id is not None and ids[-1] == tokenizer.eos_token_id:
        ids.pop()
    return ids


def opens_reasoning(tokenizer: Any, chat: Chat | None) -> bool:
    """Return whether the template ends a prompt inside the reasoning, so that the completion starts there."""
    return chat is not None and opened(_rendered(tokenizer, _messages(tokenizer, chat, _SLOT), chat))


def assistant_ids(tokenizer: Any, chat: Chat | None) -> Callable[[str | None, str, bool], list[int]]:
    """Return a function (reasoning, reply, ended) -> the tokens that a model should generate behind a prompt.

    The reasoning is in its place in the tokenizer's chat template (`reasoning_content` of a message), or else between
    the template's tags, or `<think>` tags. Without reasoning, a block that the prompt opens is closed. EOS follows if
    the text `ended` by itself. Control tokens come only from the template, as in `prompt_ids`.
    """
    inside = opens_reasoning(tokenizer, chat)
    place = (chat and _place(tokenizer, chat)) or _usual_place(tokenizer, chat, inside)

    def ids(reasoning: str | None, reply: str, ended: bool) -> list[int]:
        if reasoning is not None:
            before, between = place
            parts = [(before, True), (reasoning.strip("\n"), False), (between, True), (reply.lstrip("\n"), False)]
        elif inside:
            parts = [(place[1].lstrip("\n"), True), (reply, False)]
        else:
            return completion_ids(tokenizer, reply, ended)
        found = _parts_ids(tokenizer, parts, "completion")
        return [*found, tokenizer.eos_token_id] if ended else found

    return ids


def conversation(
    tokenizer: Any, chat: Chat, prompt: str, turns: Sequence[Mapping[str, Any]]
) -> list[tuple[list[int], bool]]:
    """Return the tokens of a conversation in parts, and whether the model should generate each part.

    Parameters
    ----------
    tokenizer : transformers tokenizer
        The tokenizer of the model.
    chat : Chat
        The other inputs of its chat template.
    prompt : str
        The first user message.
    turns : sequence of mappings
        The messages behind it, in the form of the template: `role`, `content` and, where it has them, `tool_calls`,
        `reasoning_content` and so on. The assistant's turns are generated, those of tools and users are not.

    Raises
    ------
    ValueError
        If there is no assistant turn, if a text spells out a control token, or if the template changes earlier turns
        when later ones follow.
    """
    for text in (prompt, *(json.dumps(turn, ensure_ascii=False) for turn in turns)):
        if spells_control(tokenizer, text):
            raise ValueError("messages: a message contains the text of a control token; remove it")
    messages: list[dict[str, Any]] = _messages(tokenizer, chat, prompt)
    whole = _rendered(tokenizer, [*messages, *map(dict, turns)], chat, add_generation_prompt=False)
    parts: list[tuple[str, bool]] = []
    done = 0
    for turn in turns:
        before = _rendered(tokenizer, messages, chat)
        messages = [*messages, dict(turn)]
        if turn["role"] != "assistant":
            continue
        after = _rendered(tokenizer, messages, chat, add_generation_prompt=False)
        if not (after.startswith(before) and whole.startswith(after)):
            raise ValueError(
                "messages: the chat template changes earlier turns when later ones follow (mostly their reasoning), so"
                " they cannot be trained on together; import the last turn as completion instead"
            )
        end = after.rfind(tokenizer.eos_token, len(before)) + len(tokenizer.eos_token)
        end = end if end >= len(before) + len(tokenizer.eos_token) else len(after.rstrip())
        parts += [(whole[done : len(before)], False), (whole[len(before) : end], True)]
        done = end
    if not parts:
        raise ValueError("messages: there is no assistant turn to train on")
    return [(list(tokenizer(text, add_special_tokens=False)["input_ids"]), learned) for text, learned in parts if text]


def _place(tokenizer: Any, chat: Chat) -> tuple[str, str] | None:
    """Return the texts in front of and behind the reasoning in the template; None if it has no place for reasoning."""
    thought, reply = f"{_SLOT}1", f"{_SLOT}2"
    asked = _messages(tokenizer, chat, _SLOT)
    start = _rendered(tokenizer, asked, chat)
    answer = {"role": "assistant", "content": reply, **dict.fromkeys(_FIELDS, thought)}
    whole = _rendered(tokenizer, [*asked, answer], chat, add_generation_prompt=False)
    if not whole.startswith(start) or thought not in whole or reply not in whole:
        return None
    before, _, rest = whole[len(start) :].partition(thought)
    return before, rest.partition(reply)[0]


def _usual_place(tokenizer: Any, chat: Chat | None, inside: bool) -> tuple[str, str]:
    opening, closing = tags(tokenizer, chat)
    between = "\n\n" if closing == THINK[1] else ""  # as DeepSeek-R1 and Qwen3 write it
    return "" if inside else f"{opening}\n", f"\n{closing}{between}"


def template_arguments(tokenizer: Any, chat: Chat) -> dict[str, Any]:
    """Return the further arguments of the chat template, with its own switches for the reasoning.

    Raises
    ------
    ValueError
        If the template has no switch for what the reasoning asks for.
    """
    found, reasoning, known = dict(chat.kwargs), chat.reasoning, _variables(tokenizer)
    if reasoning.mode != "auto":
        switch = next((name for name in _SWITCHES if name in known), None)
        if switch is not None:
            found.setdefault(switch, reasoning.mode == "on")
        elif reasoning.mode == "off" and tags_in(_template(tokenizer)):
            raise ValueError(
                "reasoning.mode: off, but the chat template has no switch that turns reasoning off"
                f" ({', '.join(_SWITCHES)}); use another model, or chat_template_kwargs"
            )
    if reasoning.effort is not None:
        if "reasoning_effort" not in known:
            raise ValueError("reasoning.effort: the chat template knows no reasoning_effort; leave it out")
        found.setdefault("reasoning_effort", reasoning.effort)
    if reasoning.budget is not None and "thinking_budget" in known:
        found.setdefault("thinking_budget", reasoning.budget)
    return found


def tags(tokenizer: Any, chat: Chat | None) -> tuple[str, str]:
    """Return the tags around the reasoning of a model: those of its chat template, else `<think>`.

    Examples
    --------
    >>> from cos_assets.tiny.tokenizer import word_tokenizer
    >>> tags(word_tokenizer(), None)
    ('<think>', '</think>')
    """
    return (tags_in(_template(tokenizer)) if chat else None) or THINK


def _template(tokenizer: Any) -> str:
    return tokenizer.get_chat_template() if tokenizer.chat_template else ""


@per_tokenizer
def _variables(tokenizer: Any) -> set[str]:
    """Return the names of the arguments that the chat template reads."""
    from jinja2 import Environment, meta

    # transformers' own tag is not known to Jinja.
    text = re.sub(r"{%-?\s*(end)?generation\s*-?%}", "", _template(tokenizer))
    environment = Environment(extensions=["jinja2.ext.loopcontrols"])
    return meta.find_undeclared_variables(environment.parse(text))


def _rendered(
    tokenizer: Any,
    messages: Sequence[Mapping[str, Any]],
    chat: Chat,
    add_generation_prompt: bool = True,
    tokenize: bool = False,
) -> Any:
    if _takes_parts(tokenizer):
        messages = [
            {**each, "content": _text_part(each["content"])} if isinstance(each.get("content"), str) else each
            for each in messages
        ]
    return tokenizer.apply_chat_template(
        list(messages),
        add_generation_prompt=add_generation_prompt,
        tokenize=tokenize,
        return_dict=False,
        **template_arguments(tokenizer, chat),
    )


def _text_part(text: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text}]


@per_tokenizer
def _takes_parts(tokenizer: Any) -> bool:
    """Return whether the chat template takes a text as a part of the content, as those of models that see images do."""
    from jinja2 import TemplateError

    for parts, content in ((False, _SLOT), (True, _text_part(_SLOT))):
        try:
            if _SLOT in tokenizer.apply_chat_template([{"role": "user", "content": content}], tokenize=False):
                return parts
        except TemplateError:
            continue
    raise ValueError(
        f"chat: true, but the chat template of {tokenizer.name_or_path!r} does not show the text of a user message;"
        " use the template of a model that chats"
    )


def _messages(tokenizer: Any, chat: Chat, prompt: str) -> list[dict[str, Any]]:
    """Return the messages of a prompt. A system message that the template rejects or leaves out joins the prompt."""
    from jinja2 import TemplateError

    user = {"role": "user", "content": prompt}
    if chat.system is None:
        return [user]
    system = {"role": "system", "content": chat.system}
    if spells_control(tokenizer, chat.system):
        raise ValueError("system: contains the text of a control token; remove it")
    try:
        shown = chat.system.strip() in _rendered(tokenizer, [system, {**user, "content": _SLOT}], chat)
    except TemplateError:
        shown = False
    return [system, user] if shown else [{**user, "content": f"{chat.system}\n\n{prompt}"}]


def _chat_ids(tokenizer: Any, prompt: str, chat: Chat) -> list[int]:
    if not tokenizer.chat_template:
        raise ValueError(
            f"chat: true, but the tokenizer of {tokenizer.name_or_path!r} has no chat template;"
            " leave chat out for a base model"
        )
    messages = _messages(tokenizer, chat, prompt)
    if not spells_control(tokenizer, prompt):
        return list(_rendered(tokenizer, messages, chat, tokenize=True))
    before, _, behind = _rendered(tokenizer, _messages(tokenizer, chat, _SLOT), chat).partition(_SLOT)
    text = _rendered(tokenizer, messages, chat)
    content = text.removeprefix(before).removesuffix(behind)
    if not (before + content + behind == text and content.strip() == prompt.strip() and _SLOT not in behind):
        raise _indistinguishable("prompt", prompt)
    return _parts_ids(tokenizer, [(before, True), (content, False), (behind, True)], "prompt")


def _parts_ids(tokenizer: Any, parts: Sequence[tuple[str, bool]], what: str) -> list[int]:
    """Encode (text, whether it is the template's own) as one text, with control tokens of the template only."""
    foreign = [text for text, own in parts if not own]
    if not any(spells_control(tokenizer, text) for text in foreign):
        return list(tokenizer("".join(text for text, _ in parts), add_special_tokens=False)["input_ids"])
    guarded = _guarded(tokenizer)
    if guarded is None:
        raise _indistinguishable(what, "".join(foreign))
    backend, renamed = guarded
    text = "".join(names(tokenizer).sub(lambda found: renamed[found[0]], part) if own else part for part, own in parts)
    ids = backend.encode(text, add_special_tokens=False).ids
    own = {backend.token_to_id(alias): control(tokenizer)[name] for name, alias in renamed.items()}
    return [own.get(number, number) for number in words(tokenizer, ids, [number in own for number in ids])]


def _indistinguishable(what: str, text: str) -> ValueError:
    return ValueError(
        f"chat: the {what} contains the text of a control token, which this tokenizer and its chat template cannot"
        f" distinguish from a real one; remove it from the {what}, which begins with {text[:60]!r}"
    )


@per_tokenizer
def _guarded(tokenizer: Any) -> tuple[Any, dict[str, str]] | None:
    """Return a copy of the tokenizer that encodes control tokens as ordinary text, and an alias for each of them.

    In the copy only the aliases encode to control tokens. Returns None for a tokenizer without a backend of the
    `tokenizers` library.
    """
    from tokenizers import AddedToken

    backend = copy.deepcopy(getattr(tokenizer, "backend_tokenizer", None))
    if backend is None:
        return None
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = True
    renamed, added, known = {}, [], tokenizer.added_tokens_decoder
    for name, number in control(tokenizer).items():
        renamed[name] = alias = f"\ue000{uuid4().hex}\ue000"  # random, so that no prompt can contain it
        flags = {flag: getattr(known[number], flag) for flag in ("single_word", "lstrip", "rstrip")}
        added.append(AddedToken(alias, normalized=False, special=False, **flags))
    backend.add_tokens(added)
    return backend, renamed
