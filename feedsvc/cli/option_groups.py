"""Options in groups: a command whose ``--help`` shows the options that most users need first."""

import click

from feedsvc.config import Group

#: What the heading of a group adds to its name.
NOTES = {
    group: "the same values for all servers and workers of a store"
    for group in Group
    if group.is_shared
} | {Group.FOREVER: "the store keeps the number that it was created with"}
#: Group of each option that says none itself.
DEFAULT_GROUP = Group.EVERYDAY
#: Order of the first options of each group; further options follow in the order of the command.
ORDER = {
    Group.EVERYDAY: (
        *("host", "port", "redis_url", "data_dir", "wait", "workers"),
        *("drain_seconds", "log_level"),
    ),
}


def heading(group: Group) -> str:
    """Return the name of a group with what holds for all its options."""
    note = NOTES.get(group)
    return f"{group} ({note})" if note else str(group)


def grouped_options(
    command: click.Command, context: click.Context
) -> dict[Group, list[click.Option]]:
    """Return the visible options of a command by group, in the order of ``--help``."""
    groups: dict[Group, list[click.Option]] = {group: [] for group in Group}
    for option in command.get_params(context):
        if isinstance(option, click.Option) and not option.hidden:
            groups[getattr(option, "group", DEFAULT_GROUP)].append(option)
    for group, names in ORDER.items():
        positions = {name: number for number, name in enumerate(names)}
        groups[group].sort(
            key=lambda option: ("--help" in option.opts, positions.get(option.name, len(names)))
        )
    return {group: options for group, options in groups.items() if options}


#: A hyphen at which click does not break a line, so that no flag is broken.
_HYPHEN = "\N{NON-BREAKING HYPHEN}"


class GroupedCommand(click.Command):
    """A command whose ``--help`` shows its options in groups."""

    def get_help(self, ctx: click.Context) -> str:
        """Return the text of ``--help``."""
        return super().get_help(ctx).replace(_HYPHEN, "-")

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write each group under its heading."""
        for group, options in grouped_options(self, ctx).items():
            records = filter(None, (option.get_help_record(ctx) for option in options))
            rows = [(flag, text.replace("-", _HYPHEN)) for flag, text in records]
            with formatter.section(heading(group)):
                formatter.write_dl(rows)
