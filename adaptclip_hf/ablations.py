"""The rows of the paper's table 5: their names, and the configuration fields that they stand for."""


def _adapters(visual: bool = False, textual: bool = False, prompt_query: bool = False, **fields) -> dict:
    return {"visual_adapter": visual, "textual_adapter": textual, "prompt_query_adapter": prompt_query, **fields}


TABLE_5 = {
    "clip": _adapters(),
    "textual": _adapters(textual=True),
    "visual": _adapters(visual=True),
    "joint": _adapters(visual=True, textual=True, joint_learning=True),
    "alternating": _adapters(visual=True, textual=True),
    "prompt-query-no-context": _adapters(prompt_query=True, prompt_query_context=False),
    "prompt-query": _adapters(prompt_query=True),
    "full": _adapters(visual=True, textual=True, prompt_query=True),
}
