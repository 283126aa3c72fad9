"""Which part of the standard library belongs to which topic: what the classifier learns to tell apart."""

from __future__ import annotations

LANGUAGE = "language"
"""The topic of the language reference."""

_MODULES = {
    "concurrency": "asyncio threading multiprocessing concurrent queue subprocess sched signal selectors"
    " contextvars socketserver",
    "networking": "http urllib socket ssl ftplib smtplib imaplib poplib xmlrpc ipaddress wsgiref webbrowser"
    " nntplib telnetlib asyncore asynchat cgi",
    "email": "email mailbox mimetypes",
    "files": "os pathlib shutil tempfile glob fnmatch fileinput posixpath ntpath genericpath stat io",
    "archives": "zipfile tarfile gzip bz2 lzma zipapp zipimport",
    "data_formats": "json csv configparser xml html plistlib tomllib pickle pickletools netrc base64 shelve"
    " dbm sqlite3 xdrlib quopri uu",
    "text": "re string textwrap difflib locale gettext codecs stringprep pprint reprlib shlex",
    "numbers": "decimal fractions statistics random numbers datetime calendar zoneinfo"
    " colorsys bisect heapq hashlib hmac secrets uuid",
    "desktop": "tkinter turtle curses cmd",
    "testing": "unittest doctest pdb bdb trace cProfile profile pstats timeit tracemalloc faulthandler",
    "types": "typing dataclasses enum collections abc contextlib functools operator types weakref copy",
    "packaging": "importlib pkgutil venv distutils runpy modulefinder site sysconfig",
    "introspection": "ast inspect dis tokenize token symtable pydoc opcode code codeop pyclbr traceback"
    " linecache",
    "programs": "logging warnings argparse optparse getopt getpass platform rlcompleter",
}

_TOPIC_OF = {module: topic for topic, modules in _MODULES.items() for module in modules.split()}


def topic_of(module: str) -> str | None:
    """The topic of a module of the standard library by its first name; None where it has none.

    >>> topic_of("urllib.parse")
    'networking'
    """
    return _TOPIC_OF.get(module.partition(".")[0])
