"""The embedded default policy: a small chat model that is trained once from a text grammar.

`grammar` says what it can be asked and answer, `build` trains it, `cache` finds it or has it built.
Only `build` imports torch.
"""
