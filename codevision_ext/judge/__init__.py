"""Does an answer that no rule decides say the same as a reference? A language model is asked, as data it can't act on.

`prompts` puts an answer to the judge and reads its verdict, `client` asks it over the network, `cache` remembers what
it decided, `agreement` measures it against people's labels. A judge that abstains or can't be reached gives no score:
its rollout is invalid, never wrong.
"""
