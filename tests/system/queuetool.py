"""The queue tool: run to its end, its exit code asserted, its tables and JSON read."""

import json
import os
import pty
import subprocess

from programs import BUILD, SANITIZER, environment

EX_USAGE, EX_DATAERR, EX_NOINPUT, EX_UNAVAILABLE = 64, 65, 66, 69
EX_OSERR, EX_IOERR, EX_TEMPFAIL, EX_NOPERM, EX_CONFIG = 71, 74, 75, 77, 78
PROGRAM = BUILD / "queue"


class Tool:
    """The tool on a spool. `wrapper` is a command to put before it, as one that runs it as somebody
    else, and `program` the tool where that one can reach it."""

    def __init__(self, spool, wrapper=(), program=PROGRAM, **settings):
        self.command = [*wrapper, str(program)]
        self.settings = {"SPOOL": spool} | settings

    def run(self, *arguments, seconds=100, **settings):
        """The CompletedProcess, its output as bytes."""
        done = subprocess.run(
            [*self.command, *arguments], env=environment(self.settings | settings), cwd="/",
            stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds)
        assert not SANITIZER.search(done.stderr.decode(errors="replace")), done.stderr.decode()
        return done

    def __call__(self, *arguments, code=0, **settings):
        """What it printed, on both ways together, as text."""
        done = self.run(*arguments, **settings)
        text = (done.stdout + done.stderr).decode()
        assert done.returncode == code, (done.returncode, text)
        return text

    def json(self, *arguments, code=0, **settings):
        """The objects that it printed."""
        done = self.run(*arguments, "--json", **settings)
        assert done.returncode == code, (done.returncode, done.stderr.decode())
        assert done.stdout.isascii()
        return [json.loads(line) for line in done.stdout.splitlines()]

    def names(self, *arguments, **settings):
        """The first column of a table, without its heading and what is indented."""
        lines = self(*arguments, **settings).splitlines()
        assert lines[0].split() == ["ID", "QUEUE", "STATE", "AGE", "SIZE", "FROM", "TO"]
        return [line.split()[0] for line in lines[1:] if not line.startswith(" ")]

    def answer(self, text, *arguments, code):
        """At a terminal, where `text` is what is typed."""
        pid, terminal = pty.fork()
        if pid == 0:
            os.chdir("/")
            os.execve(self.command[0], [*self.command, *arguments], environment(self.settings))
        said = b""
        os.write(terminal, text.encode())
        try:
            while chunk := os.read(terminal, 65536):
                said += chunk
        except OSError:
            pass  # so a terminal says that nobody is at its other end any more
        finally:
            os.close(terminal)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert status == code, (status, said)
        return said.decode()


def fail(queue, why="ERROR: it is so", name=None, **message):
    """Puts a message into failed/ with its reason; returns its id, or the name that it is given."""
    id = queue.put(into="failed", **message)
    directory = queue.directory("failed")
    if name is not None:
        (directory / id).rename(directory / name)
    if why is not None:
        (directory / f"{name or id}.reason").write_text(why + "\n")
    return name or id
