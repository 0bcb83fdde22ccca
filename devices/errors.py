"""Every error that boardfit raises on purpose; each message names the cause and the next step.

BoardfitError                 exit code 1: something failed that is not the user's mistake
├── InputError                2: a file, an option or a name that cannot be used
│   ├── InventoryError            boards.toml is wrong
│   ├── ModelFileError            not a TFLite or ONNX model, or a damaged one
│   ├── TableFileError            not a lookup table, a damaged one, or one of another version
│   ├── RunFolderError            not a run of ours, or one that was begun with other settings
│   ├── ReportSourceError         something that no page can be written about
│   ├── SpaceError                an unknown search space, or an architecture outside of it
│   └── DataError                 a data set that is missing, damaged, or does not fit the space
├── DeviceError               3: the board cannot be used
│   ├── DeviceNotFound            no board has that name
│   ├── DeviceAmbiguous           several boards fit; we never guess
│   ├── DeviceUnreachable         nothing answers at its address, or something else does
│   ├── DeviceUnverified          what answers is not known to be the board
│   ├── DeviceLost                the link broke, or the process on the board ended
│   ├── DeviceTimeout             the board did not answer in the time given
│   ├── BoardInUse                another job measures on the board
│   ├── BoardQuarantined          jobs have lost it again and again, and it is left alone
│   ├── DeviceBusy                another program holds the way to the board
│   ├── DeviceUnauthorised        the board does not let this computer in
│   ├── CommandFailed             a command on the board ended with an error
│   └── SettingError              a setting of the board cannot be changed, or put back
├── MeasurementError          4: numbers that would not be worth believing
│   ├── WorkerError               the worker broke its protocol, or could not run a model
│   │   └── WorkerLost                it ended while it loaded a model, or does not answer
│   ├── PlacementError            operators of a model run outside of the delegate
│   ├── ConditionsChanged         values under different conditions would be mixed
│   ├── BoardsDisagree            boards that share a table do not take the same time
│   ├── MissingEntry              the table has no price for an operator
│   └── TableNotValid             the table failed its own validation
├── ConstraintNotMet          5: no network of the space meets the target
├── BudgetSpent               1: a search asked for more evaluations than it was given
├── StorageError              1: the disk is full or cannot be written
└── InUse                     1: another process works on the same table or run
"""

from __future__ import annotations

import contextlib
import errno
import sqlite3
from collections.abc import Iterator
from pathlib import Path

LONGEST = 2000  # letters of a message
_END = 500  # of them at its end, where the next step stands


class BoardfitError(Exception):
    """The root: catching it catches everything that boardfit raises on purpose.

    Messages quote what files and boards say; one that is too long to be read loses its middle.
    """

    exit_code = 1

    def __init__(self, message: str) -> None:
        if len(message) > LONGEST:
            message = f"{message[: LONGEST - _END - 5]} ... {message[-_END:]}"
        super().__init__(message)


class InputError(BoardfitError):
    """A file, an option or a name that cannot be used."""

    exit_code = 2


class InventoryError(InputError):
    """The inventory file is wrong; the message names the file, the board and the field."""


class ModelFileError(InputError):
    """Not a TFLite or ONNX model, or a damaged one."""


class TableFileError(InputError):
    """Not a lookup table, a damaged one, or one written by another version."""


class RunFolderError(InputError):
    """Not a run folder of ours, or one that was begun with other settings."""


class ReportSourceError(InputError):
    """Something that no page can be written about."""


class SpaceError(InputError):
    """An unknown search space, or an architecture that is not in it."""


class DataError(InputError):
    """A data set that is missing, damaged, or does not fit the search space."""


class DeviceError(BoardfitError):
    """The board cannot be used."""

    exit_code = 3


class DeviceNotFound(DeviceError):
    """No board has that name."""


class DeviceAmbiguous(DeviceError):
    """Several boards fit what was asked for; the message lists them."""


class DeviceUnreachable(DeviceError):
    """Nothing answers at the board's address, or something that is no such board."""


class DeviceUnverified(DeviceError):
    """What answers is not known to be the board; the message says how to find out."""


class DeviceLost(DeviceError):
    """The link broke, or the process on the board ended.

    `killed`: it was ended by SIGKILL, as the system does when memory runs out.
    """

    def __init__(self, message: str, *, killed: bool = False) -> None:
        super().__init__(message)
        self.killed = killed


class DeviceTimeout(DeviceError):
    """The board did not answer in the time given."""


class BoardInUse(DeviceError):
    """Another job measures on the board, or took it over; the message says who, and since when."""


class BoardQuarantined(DeviceError):
    """Several jobs in a row have lost the board; the message says why, and what ends this."""


class DeviceBusy(DeviceError):
    """Another program holds the way to the board; the message says which."""


class DeviceUnauthorised(DeviceError):
    """The board does not let this computer, or this user, in; the message says who allows it."""


class CommandFailed(DeviceError):
    """A command on the board ended with an error."""


class SettingError(DeviceError):
    """A setting of the board cannot be changed, or not be put back; the message says which."""


class MeasurementError(BoardfitError):
    """Numbers that would not be worth believing."""

    exit_code = 4


class WorkerError(MeasurementError):
    """The worker on the board broke its protocol, or could not load or run a model."""


class WorkerLost(WorkerError):
    """The worker ended while it loaded a model, or does not answer; another one can be started.

    `out_of_memory`: it was killed, or said that the board's memory is full.
    """

    def __init__(self, message: str, *, out_of_memory: bool = False) -> None:
        super().__init__(message)
        self.out_of_memory = out_of_memory


class PlacementError(MeasurementError):
    """Operators run outside of the delegate that was asked for; the message names them."""


class ConditionsChanged(MeasurementError):
    """Values under different conditions would be mixed; the message says what differs."""


class BoardsDisagree(MeasurementError):
    """Boards that share a table do not take the same time; the message names the odd one."""


class MissingEntry(MeasurementError):
    """The table has no price for an operator; the message says which and how to add it."""


class TableNotValid(MeasurementError):
    """The table failed its own validation on whole networks."""


class ConstraintNotMet(BoardfitError):
    """No network of the space meets the target; the message says what can be reached."""

    exit_code = 5


class BudgetSpent(BoardfitError):
    """A search wanted to score more networks than its budget allows."""


class StorageError(BoardfitError):
    """The disk is full, or the place cannot be written."""


class InUse(BoardfitError):
    """Another process works on the same table or run folder."""


_NOT_WRITABLE = frozenset(
    {
        errno.EACCES,
        errno.EROFS,
        errno.EPERM,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.ENAMETOOLONG,
        errno.ELOOP,
        errno.EFBIG,
    }
)


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's and SQLite's words for "cannot write" into `StorageError`."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise StorageError(
                f"no space left while writing {path}; free some and run the same command "
                "again: it goes on from the last committed state"
            ) from error
        if error.errno in _NOT_WRITABLE:
            raise StorageError(f"cannot write {path}: {error.strerror}") from error
        raise
    except sqlite3.OperationalError as error:
        if "disk is full" in str(error) or "disk I/O" in str(error):
            raise StorageError(
                f"no space left while writing {path}; free some and run the same command "
                "again: it goes on from the last committed state"
            ) from error
        if "readonly" in str(error) or "unable to open" in str(error):
            raise StorageError(f"cannot write {path}: {error}") from error
        raise
