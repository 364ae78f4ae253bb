"""A word that an application does not want to draw."""

from sdcore import Contributions, Options, Plugin, Run, Verdict, hookimpl, ports


class Block(Options):
    word: str = "weapon"
    locked = True  # in `always`, no request can change it


class BlockPlugin(Plugin):
    name = "block"
    options = Block

    @hookimpl
    def judge(self, run: Run) -> Contributions:
        def check(prompt):
            for block in run.uses(Block):
                if block.word in prompt.positive.lower():
                    return Verdict("withhold", f"the prompt has the word {block.word!r}", check="block")
            return None

        return ports.judge_prompt(check)
