"""ESM2: a click, then a decisive action or another, then a purchase."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import tensorflow as tf

from funrec.models.funnels.base import Funnel, LogProbability, from_logit
from funrec.models.funnels.esmm import check_binary, conditional_rate, head_name
from funrec.models.funnels.independent import logit
from funrec.models.funnels.log_space import chain, mixture
from funrec.schema import Task
from funrec.utils.errors import InputError


class ESM2(Funnel):
    """Four towers for three tasks: click, decisive action after it, purchase after either it or another action.

        P(click) = y1     P(action) = y1 y2     P(purchase) = y1 (y2 y3 + (1 - y2) y4)

    Wen et al., SIGIR 2020: `y1` is P(click | exposure), `y2` P(action | click), `y3` P(purchase | action) and
    `y4` P(purchase | another action). The losses of all three are taken on all exposures.

    The losses identify `y1`, `y2` and the mixture `m = y2 y3 + (1 - y2) y4`, which is P(purchase | click). They do not
    tell `y3` and `y4` apart: any pair with the same mixture has the same loss. So the heads are the three tasks,
    `<action>_given_<click>` (`y2`) and `<purchase>_given_<click>` (`m`), and neither `y3` nor `y4`.

    Raises:
        InputError: If the tasks are not three binary ones, the second and the third after the first.
    """

    paper = "Wen et al., SIGIR 2020"
    needs_nesting = True

    def name_towers(self, tasks: Sequence[Task]) -> tuple[str, ...]:
        names = [task.name for task in tasks]
        if len(tasks) != 3:
            mend = "Leave some out with dataset.drop=[...], or" if len(tasks) > 3 else "Add one, or"
            raise InputError(
                "The funnel esm2 should have three tasks, in order: click, decisive action, purchase. Received "
                f"{len(tasks)}: {', '.join(names)}. {mend} take model/funnel=esmm."
            )
        check_binary(tasks, "esm2")
        click, action, purchase = tasks
        if click.after or action.after != click.name or purchase.after != click.name:
            received = ", ".join(f"{task.name} after {task.after or 'none'}" for task in tasks)
            raise InputError(
                "The funnel esm2 should have its second and third task after its first, and that after none. Received: "
                f"{received}. Set dataset.tasks.{click.name}.after=null dataset.tasks.{action.name}.after={click.name} "
                f"dataset.tasks.{purchase.name}.after={click.name}, or list the click first."
            )
        return (click.name, head_name(action), f"{purchase.name}_given_{action.name}", f"{purchase.name}_given_other")

    def tower_parents(self) -> tuple[int | None, ...]:
        return (None, 0, 1, 0)

    def combine(self, logits: tf.Tensor) -> dict[str, LogProbability]:
        click, action, purchase = (task.name for task in self.tasks)
        y1, y2, y3, y4 = (from_logit(logits[tower]) for tower in range(4))
        return {click: y1, action: chain(y1, y2), purchase: chain(y1, mixture(y2, y3, y4))}

    def conditional(self, logits: tf.Tensor) -> dict[str, LogProbability]:
        _, action, purchase = self.tasks
        y2, y3, y4 = (from_logit(logits[tower]) for tower in (1, 2, 3))
        return {head_name(action): y2, head_name(purchase): mixture(y2, y3, y4)}

    def initial_logits(self, rates: Mapping[str, float]) -> list[float]:
        click, action, purchase = (logit(conditional_rate(rates, task)) for task in self.tasks)
        return [click, action, purchase, purchase]
