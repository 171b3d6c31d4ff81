"""The result of an import."""

from collections import Counter
from dataclasses import dataclass, field, fields
from typing import Any

from feedsvc.cli.importing.rejects import Reject

#: Rejected rows that the report has one by one. Further rows are only counted.
MAX_REJECTS = 20


@dataclass(slots=True)
class Report:
    """The result of an import.

    Follows and activities count if they are new. A follow or activity that the store had before is
    a duplicate. So is a row whose first answer was lost, because the import sent the row again.
    Deliveries count if their activity is new and they had ended when the server answered.
    """

    follows: int = 0
    activities: int = 0
    deliveries: int = 0
    skipped_cold: int = 0
    pulled: int = 0
    """Followers of celebrities, whose reads fetch the activity."""
    queued: int = 0
    """Activities whose delivery had not ended when the server answered."""
    duplicates: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    """Refused rows by reason."""
    malformed: int = 0
    rows: int = 0
    """Rows of all files, malformed ones included."""
    rejects: list[Reject] = field(default_factory=list)
    """The first malformed and refused rows, at most MAX_REJECTS."""
    damaged_files: dict[str, str] = field(default_factory=dict)
    """Files that cannot be read to their end, with the reasons."""
    interrupted: bool = False
    """True if a signal ended the import."""
    error: str = ""
    """The reason why the import ended early; empty if it did not, or if a signal ended it."""
    warmed: int | None = None
    """Number of feeds that were warmed; None if the import was not to warm any."""
    seconds: float = 0.0

    @property
    def rejected(self) -> int:
        """Number of malformed and refused rows."""
        return self.malformed + self.refused.total()

    def note_reject(self, reject: Reject) -> None:
        """Keep one of the first rejects."""
        if len(self.rejects) < MAX_REJECTS:
            self.rejects.append(reject)

    def as_dict(self) -> dict[str, Any]:
        """Return the report as a dictionary that can be written as JSON."""
        values = {column.name: getattr(self, column.name) for column in fields(self)}
        values["refused"] = dict(self.refused)
        values["rejects"] = [reject._asdict() for reject in self.rejects]
        values["seconds"] = round(self.seconds, 3)
        if self.warmed is None:
            del values["warmed"]
        return values
