"""The limits that several rooms share, each with its unit and its reason.

One that a single module keeps to stands at the top of it.
"""

from __future__ import annotations

KIB = 1024
MIB = 1024 * KIB

MANIFEST_BYTES_MAX = 1 * MIB  # a manifest is written by people; more is a mistake or an attack
MANIFEST_DEPTH_MAX = 32  # nesting deeper than this is not a manifest
MANIFEST_FILES_BYTES_MAX = 64 * MIB  # golden sets and other files that travel with a point
MANIFEST_FILES_MAX = 10_000  # of them; a golden set a component

CHUNK_BYTES_MIN = 1 * MIB  # measured best for checkpoints at an average of 4 MiB
CHUNK_BYTES_AVG = 4 * MIB
CHUNK_BYTES_MAX = 16 * MIB  # bounds the memory of one worker
PACK_BYTES_MAX = 64 * MIB  # large enough for object stores, small enough to refetch
OBJECT_BYTES_MAX = PACK_BYTES_MAX  # nothing we write is larger; a store that serves more is lying
TREE_DEPTH_MAX = 128  # nesting of stored folders
TREE_ENTRIES_MAX = 50_000_000  # of one snapshot; few pages can unfold to more than any disk has room for
ENTRY_NAME_BYTES_MAX = 4096  # PATH_MAX on Linux
ATTRIBUTES_MAX = 64  # extended attributes of one path; more is not what a file system is for
ATTRIBUTES_BYTES_MAX = 64 * KIB  # of their names and values: as much as Linux takes as one value
ATTRIBUTE_NAME_BYTES_MAX = 255  # XATTR_NAME_MAX on Linux

PRUNE_GRACE_S = (
    24 * 3600.0
)  # longer than any capture: who began before a mark has ended before what is marked goes
LEFTOVER_GRACE_S = PRUNE_GRACE_S  # as old is what a command that was killed has left, and no other is writing

LOCK_SECONDS_MAX = (
    10 * 365 * 24 * 3600
)  # nobody can take a lock back, so one of centuries is a slip of a finger

FACTS_BYTES_MAX = 256 * KIB  # facts are read by people and by expressions
INVARIANT_CPU_SECONDS_MAX = 5.0  # all expressions of a group; the library has no budget of its own
INVARIANT_BYTES_MAX = 1 << 30  # an expression can build large lists; it may not take the machine along
UNKNOWN_POINTS_MAX = (
    10  # looked at anew for one choice: one that runs away in each must not hold up a recovery
)
FREEZE_SECONDS_MAX = (
    60.0  # writers wait as long: longer is an outage of its own, and they give up by themselves
)
CAPTURE_ATTEMPTS_MAX = 3  # a member whose identity still moves after this is frozen, or fuzzy
CLEANED_ATTEMPTS_MAX = 10  # a table whose newest version a cleanup took away each time is given up after this

STEPS_AT_ONCE = 2  # of a run; more fight for the same disk and network
STEP_ATTEMPTS_MAX = 3  # beyond this a person must look
CONNECTOR_SECONDS_MAX = 3600.0  # default deadline of one connector call
HEALTH_SECONDS_MAX = 60.0  # how long a started process may take to answer
GRACE_S = (
    2.0  # for a call that is told to end: a person waits, or writers do; whoever cannot interrupts once more
)
STEP_GRACE_S = (
    30.0  # for one of a run, which is put back only after it: longer than a slow store takes for a chunk
)
LEAVE_GRACE_S = (
    5.0  # for all calls of a run that stops: less than the 10 s from a SIGTERM to the SIGKILL after it
)
HOLD_TTL_S = 20.0  # an orchestrator that was watched for this long and renewed nothing may be succeeded
SLOT_DIGITS = 16  # slot names sort as text
SLOT_APPEND_ATTEMPTS_MAX = 64  # losing this many races in a row means something else is wrong
