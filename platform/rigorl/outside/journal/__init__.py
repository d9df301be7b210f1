"""The journal: what happened, kept where no crash reaches it. SQLAlchemy and Alembic.

tables      what is kept
database    one way to read, one way to write, and what to say when neither works
schema      older journals are brought up to date, newer ones are left alone
lease       one driver at a time
lines       what drivers say
sql         the journal itself
whys        what befell trials, and whether anybody drives
carry       a study as text, from one machine to another
"""

from rigorl.outside.journal.carry import export_study, import_study, read_study
from rigorl.outside.journal.database import DatabaseError
from rigorl.outside.journal.lease import ask_to_stop
from rigorl.outside.journal.lines import Lines
from rigorl.outside.journal.sql import Row, SqlJournal, State, at_home
from rigorl.outside.journal.whys import Past, driver, hosts, pasts

__all__ = [
    "DatabaseError",
    "Lines",
    "Past",
    "Row",
    "SqlJournal",
    "State",
    "ask_to_stop",
    "at_home",
    "driver",
    "export_study",
    "hosts",
    "import_study",
    "pasts",
    "read_study",
]
