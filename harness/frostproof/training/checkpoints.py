"""The statements that save a checkpoint and go on from it."""

from __future__ import annotations

from frostproof.spec.program import Schedule, Scheduler
from frostproof.training.passes import Passes
from frostproof.training.source import At, Statement, block

SCHEDULERS: dict[Scheduler, str] = {
    "StepLR": "StepLR(optimizer, step_size=1, gamma=0.5)",
    "LambdaLR": "LambdaLR(optimizer, lambda step: 0.5**step)",
    "OneCycleLR": (
        "OneCycleLR(optimizer, max_lr=0.5, total_steps=64, pct_start=0.1, cycle_momentum=False)"
    ),
    "ReduceLROnPlateau": "ReduceLROnPlateau(optimizer, factor=0.5, patience=0)",
    "SequentialLR": (
        "SequentialLR(optimizer, [torch.optim.lr_scheduler.ConstantLR(optimizer, factor=0.5, "
        "total_iters=1), torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)], "
        "milestones=[2])"
    ),
}
"""Learning rate schedulers, with settings under which each of the first steps changes the rate.
ReduceLROnPlateau receives a loss that never gets better."""


class Checkpoints(Passes):
    """Saves what a checkpoint holds, and loads it into a new model and optimizer."""

    def title(self, scheduler: Scheduler) -> str:
        """The variable that holds this scheduler."""
        events = (each for each in self.case.program if isinstance(each, Schedule))
        names = list(dict.fromkeys(each.scheduler for each in events))
        return f"scheduler_{names.index(scheduler)}" if len(names) > 1 else "scheduler"

    def new_scheduler(self, scheduler: Scheduler) -> str:
        return f"{self.title(scheduler)} = torch.optim.lr_scheduler.{SCHEDULERS[scheduler]}"

    def resume(self) -> list[Statement]:
        """Go on with a new model and optimizer, which receive what was saved, and gradients.

        Gradients are not part of a checkpoint. They are carried over by hand, so that the
        checkpoint is the only difference from a training that goes on without one.
        """
        if self.optimizer and not all(map(self.members, range(len(self.layout)))):
            return []  # one would not save an optimizer with an empty group
        self.naming.imports |= {"import io", "import torch"}
        left = [i for i in self.case.frozen_midway if i not in self.owned] if self.optimizer else []
        schedulers = [*map(self.title, self.schedulers)]
        parts = ["model", *["optimizer"] * self.optimizer, *["scaler"] * self.scaler, *schedulers]
        setting = self.subject.setting
        saved = ", ".join(
            f'"{part}": {setting.saved if part == "optimizer" else f"{part}.state_dict()"}'
            for part in parts
        )
        freezing = self.hook("freeze", sorted(self.frozen), "model")
        masked = self.masked()
        mode = self.mode or "train"
        construction = self.construct()
        self.wrapped = None
        self.mode = ""  # some optimizers must be told once more, behind load_state_dict
        return [
            At("load"),
            *self._set_aside(left),
            *(setting.saving if self.optimizer else ()),
            "file = io.BytesIO()",
            f"torch.save({{{saved}}}, file)",
            "file.seek(0)",
            "saved = torch.load(file, weights_only=False)",
            "old = model",
            f"model = network({self.case.seed + 1})",
            *setting.built,
            At("network"),
            'model.load_state_dict(saved["model"])',
            *freezing,
            _pairwise("modules", "new", "new.training = known.training"),
            _pairwise("parameters", "p", "p.grad = known.grad"),
            At("built", "", masked),
            *construction,
            *map(self.new_scheduler, self.schedulers),
            *([_load("optimizer"), *self.switch(mode, mark=False)] if self.optimizer else []),
            *self._put_back(left),
            *map(_load, schedulers),
            *([self.new_scaler(), _load("scaler")] if self.scaler else []),
            *self.companion(),
            self.owned_mark(),
            At("resumed"),
        ]

    def _set_aside(self, left: list[int]) -> list[Statement]:
        """state_dict() raises KeyError for state of parameters that no group holds any more."""
        if not left:
            return []
        pop = "optimizer.state.pop(p) for name, p in named.items() if p in optimizer.state"
        return [
            f"named = {{name: model.get_parameter(name) for name in [{self.quoted(left)}]}}",
            f"aside = {{name: {pop}}}",
        ]

    def _put_back(self, left: list[int]) -> list[Statement]:
        put = "optimizer.state[model.get_parameter(name)] = state"
        return [block("for name, state in aside.items():", put)] if left else []


def _load(part: str) -> str:
    return f'{part}.load_state_dict(saved["{part}"])'


def _pairwise(what: str, name: str, statement: str) -> Statement:
    return block(f"for {name}, known in zip(model.{what}(), old.{what}()):", statement)
