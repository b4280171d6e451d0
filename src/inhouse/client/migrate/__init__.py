"""OpenAI's tuning jobs and their files, taken up here: read or downloaded, checked, started, reported.

    plan = migrate.plan("from-openai", Choices(base="Qwen3-8B"))   # asks nobody, starts nothing
    client.migrate_openai("from-openai", base="Qwen3-8B")          # does it

It knows OpenAI's descriptions of jobs and files, and this house's wire; how a job trains is the worker's business.
"""

from inhouse.client.migrate.download import Downloaded, download
from inhouse.client.migrate.folder import Folder, read_folder
from inhouse.client.migrate.plan import Choices, JobPlan, Setting, plan
from inhouse.client.migrate.report import Migration, Outcome
from inhouse.client.migrate.start import carry_out

__all__ = [
    "Choices",
    "Downloaded",
    "Folder",
    "JobPlan",
    "Migration",
    "Outcome",
    "Setting",
    "carry_out",
    "download",
    "plan",
    "read_folder",
]
