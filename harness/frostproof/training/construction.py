"""The statements that build a model and its optimizer, and that follow a change of the mask."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from frostproof.approaches.helper import Helper
from frostproof.spec.architecture import expression
from frostproof.spec.program import AddFrozen, Freeze, Scheduler, Thaw
from frostproof.training.hooks import Hooks
from frostproof.training.source import At, Statement, block


class Construction(Hooks):
    """Builds the optimizer; edits its groups, or builds another, where the mask changes."""

    only = False
    """Whether the statements call `modules.only`."""
    alone = False
    """Whether the statements build an optimizer for each parameter."""
    group_added = False
    """Whether a group was added to the optimizer."""
    mode = ""
    """The mode, train or eval, that the optimizer was told last."""
    factors: tuple[float, ...] = ()
    """What the program multiplied learning rates by, for groups that are added later."""
    schedulers: tuple[Scheduler, ...] = ()
    """The schedulers of the current optimizer."""

    def build(self) -> list[Statement]:
        """The freezing of the new model, and its optimizer."""
        freezing = self.hook("freeze", sorted(self.frozen), "model")
        late = self.approach.late
        self.layout = self.newcomers()
        group = (
            'torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), '
            "rank=0, world_size=1)"
        )
        initialized = block("if not torch.distributed.is_initialized():", group)
        return [
            *([initialized] if self.subject.distributed else []),
            *self.subject.setting.before,
            f"model = network({self.case.seed})",
            *self.subject.setting.built,
            At("network"),
            f"# {' '.join((type(self.approach).__doc__ or type(self.approach).__name__).split())}",
            *self._new_helper(),
            *([] if late else freezing),
            *(self.eval_frozen() if self.case.frozen_in_eval else []),
            At("built", "", self.masked()),
            At("build"),
            *self.construct(),
            *self.companion(),
            self.owned_mark(),
            *(freezing if late else []),
            *([At("changed", "", self.masked())] if late and freezing else []),
        ]

    def _new_helper(self) -> list[Statement]:
        """The user's helper, if that is a class."""
        helper = self.approach
        if not (isinstance(helper, Helper) and helper.is_class):
            return []
        return [f"way = {self.naming.of(helper.thing, helper.target)}()"]

    def construct(self) -> list[Statement]:
        """The construction of the optimizer for the current mask."""
        subject = self.subject
        self.optimizer = bool(self.layout) and subject.factory is not None
        self.held = {group: self.members(group) for group in range(len(self.layout))}
        if subject.factory is None:
            return []
        if not self.optimizer:
            return ["optimizer = None  # nothing to own"]
        factory = self.naming.of(subject.factory, subject.target)
        options = {**subject.arguments, **dict(self.case.groups[0].options)}
        first = self._first_argument()
        if subject.base is not None:
            first = self.naming.call(subject.base, first)
        arguments = [first, *self.naming.keywords(options)]
        how = subject.setting.optimizer or "{factory}({arguments})"
        if self.approach.alone:
            self.alone = True
            how = "EachAlone({factory}, {arguments})"
        call = f"optimizer = {how.format(factory=factory, arguments=', '.join(arguments))}"
        self.mode = ""
        wrapped = [f"step = {subject.setting.step}"] if subject.setting.step else []
        return [call, *wrapped, *self.switch("train", mark=False)]

    def _first_argument(self) -> str:
        """What the optimizer is built from: parameters, groups of them, or modules."""
        owned = self.owned
        if self.subject.takes == "model":
            return self._module(sorted(owned))
        if self.subject.takes == "two-lists":
            matrices = [i for i in owned if len(self.case.parameters[i].shape) == 2]
            others = [i for i in owned if i not in matrices]
            lists = self.list_of(matrices), self.list_of(others)
            named = zip(self.subject.lists, lists, strict=bool(self.subject.lists))
            return ", ".join(f"{name}={each}" for name, each in named) or ", ".join(lists)
        if self.subject.takes == "parameter-list":
            return self.list_of(self.approach.arranged(owned))
        if len(self.layout) == len(self.case.groups) == 1 and not self.keyed:
            return self._listed(owned)
        groups = [self._group(number, self.members(i)) for i, (number, _) in enumerate(self.layout)]
        return f"[{', '.join(groups)}]"

    def _module(self, members: list[int]) -> str:
        if len(members) == len(self.case.parameters):
            return "model"
        self.only = True
        return f"only(model, {self.quoted(members)})"

    def _listed(self, members: Iterable[int]) -> str:
        """The members of a group: parameters, or pairs with their names."""
        members = self.approach.arranged([*members])
        # ZeroRedundancyOptimizer uses up a group that is a generator, and leaves it empty.
        wrapped = bool(self.subject.setting.optimizer)
        listed = self.list_of(members) if wrapped else self.all_of(members)
        if self.subject.takes != "named-parameters":
            return listed
        if listed == "model.parameters()":
            return "model.named_parameters()"
        return f"[{', '.join(f'({self.quoted([i])}, {self.name(i)})' for i in members)}]"

    def _group(self, number: int, members: list[int]) -> str:
        options = {**dict(self.case.groups[number].options), **self.keys(members[0])}
        words = (f', "{key}": {self.naming.value(value)}' for key, value in options.items())
        return f'{{"params": {self._listed(members)}{"".join(words)}}}'

    def companion(self) -> list[Statement]:
        """The second optimizer, for an approach that has one."""
        if not self.frozen or not self.calls("companion"):
            return []
        return [f"companion = second({self.frozen_list})"]

    def switch(self, mode: str, *, mark: bool = True) -> list[Statement]:
        """Tell the optimizer its mode, unless it was told before. `mark`: as a phase of its own."""
        if not (self.subject.modes and self.optimizer and self.mode != mode):
            return []
        self.mode = mode
        return [*([At(mode)] if mark else []), f"optimizer.{mode}()", At("switched")]

    def eval_frozen(self) -> list[Statement]:
        return [f"{expression(path)}.eval()" for path in self.masked().paths]

    # Changes of the mask

    def change(self, event: Freeze | Thaw) -> list[Statement]:
        """Freeze or thaw, in the model and in the optimizer."""
        freezes = isinstance(event, Freeze)
        named = map(self.case.positions.__getitem__, event.names)
        changed = [i for i in named if (i in self.frozen) != freezes]
        before = {*self.owned}
        self.frozen ^= {*changed}
        found: list[Statement] = []
        if isinstance(event, Freeze):
            found += self.hook("freeze", changed, "model")
            if self.approach.follows == "itself":  # which stay in its groups
                self.added_frozen |= {i for i in changed if i in before}
            if event.gradient == "none" and not self.approach.sees_to_gradients:
                found += self.each(changed, "{p}.grad = None")
            elif event.gradient == "zeros" and changed:
                zero = block("if p.grad is not None:", "p.grad = torch.zeros_like(p.grad)")
                found.append(block(f"for p in {self.all_of(changed)}:", zero))
        thaws = [] if freezes else self.hook("thaw", changed)
        if not changed:
            return [*found, *thaws]
        follows = [At("regroup"), *self._follow(), *self.companion(), self.owned_mark()]
        found += [*follows, *thaws] if self.approach.adds_first else [*thaws, *follows]
        return [*found, At("changed", "", self.masked())]

    def add_frozen(self, event: AddFrozen) -> list[Statement]:
        """Give the optimizer parameters that stay frozen, where it gets them before they thaw."""
        if not self.approach.adds_first:
            return []
        self.added_frozen |= {*map(self.case.positions.__getitem__, event.names)}
        return [At("regroup"), *self._follow(), *self.companion(), self.owned_mark()]

    def _follow(self) -> list[Statement]:
        """What the optimizer does about the new mask: nothing, new groups, or it is rebuilt."""
        newcomers = self.newcomers({i for _, members in self.layout for i in members})
        if self.subject.factory is None or self.approach.follows == "nothing":
            self.layout = self.newcomers()
            return []
        if self.approach.follows == "itself" and self.optimizer:
            self.layout += newcomers
            return [At("added", "", tuple(members)) for _, members in newcomers]
        return self._edit(newcomers) if self._can_edit(newcomers) else self._rebuild()

    def _can_edit(self, newcomers: Sequence[tuple[int, list[int]]]) -> bool:
        subject, places = self.subject, range(len(self.layout))
        return (
            self.optimizer
            and self.approach.follows == "edit"
            and subject.per_parameter
            and (subject.groups or not newcomers)
            and (
                subject.setting.edits_groups or all(self.members(i) == self.held[i] for i in places)
            )
        )

    def _edit(self, newcomers: Sequence[tuple[int, list[int]]]) -> list[Statement]:
        found: list[Statement] = []
        for place in range(len(self.layout)):
            members = self.members(place)
            if members == self.held[place]:
                continue
            self.held[place] = members
            members = [*self.approach.arranged(members)]
            group = f"optimizer.param_groups[{place}]"
            # In place: an optimizer may hold on to the list.
            found.append(f'{group}["params"][:] = {self.all_of(members)}')
            if self.subject.takes == "named-parameters":
                names = f'{group}["param_names"][:] = [{self.quoted(members)}]'
                found.append(block(f'if "param_names" in {group}:', names))
        for number, members in newcomers:
            found.append(f"optimizer.add_param_group({self._group(number, members)})")
            self.held[len(self.layout)] = members
            self.layout.append((number, members))
            for factor in self.factors:
                found += self.rescale(factor, "optimizer.param_groups[-1:]")
            found.append(At("added", "", tuple(members)))
            self.group_added = True
            self.mode = ""  # it may keep its mode in each group
        return [*found, *(self.switch("train", mark=False) if newcomers else [])]

    def _rebuild(self) -> list[Statement]:
        first, groups = not self.optimizer, tuple(number for number, _ in self.layout)
        self.layout = self.newcomers()
        found: list[Statement] = [At("replacing")]
        if self.subject.backward == "fused" or self.subject.hooks:
            # The old optimizer hung hooks on the parameters, with which it would go on stepping.
            hooks = ("p._backward_hooks", "p._post_accumulate_grad_hooks")
            clear = (block(f"if {hook}:", f"{hook}.clear()") for hook in hooks)
            found.append(block("for p in model.parameters():", *clear))
        found += self.construct()
        if first:
            for factor in self.factors:
                found += self.rescale(factor)
        self.schedulers = ()
        return [*found, At("rebuilt", "", (groups, tuple(number for number, _ in self.layout)))]

    def rescale(self, factor: float, groups: str = "optimizer.param_groups") -> list[Statement]:
        """Multiply the learning rates of groups; there are optimizers that have none."""
        if not self.optimizer:
            return []
        test = block('if group.get("lr") is not None:', f'group["lr"] = group["lr"] * {factor!r}')
        return [block(f"for group in {groups}:", test)]
