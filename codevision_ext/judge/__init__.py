"""Decides by a language model whether an answer that no rule decides says the same as a reference.

`prompts` puts an answer to the judge and reads its verdict, `client` asks it over the network, `cache` remembers what
it decided, `agreement` measures it against people's labels. A judge that abstains or can't be reached gives no score:
its rollout is invalid, never wrong.
"""
