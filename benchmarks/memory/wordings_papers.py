"""Ways of asking about projects, contracts and policies: four taught, the rest for the exam alone.

See `wordings_people` for how they were written.
"""

from __future__ import annotations

from benchmarks.memory.wordings_people import Asked

PROJECT: dict[str, Asked] = {
    "leader": (
        (
            "Who is the leader of {s}?",
            "Who leads {s}?",
            "Which project leader does {s} have?",
            "Please name the leader of {s}.",
        ),
        (
            "who's in charge of {s}",
            "{s} PM",
            "Who runs {s} day to day?",
            "{s} - who is at the helm?",
            "whom do I report my hours for {s} to, as the one steering it",
            "I'd like to join {s}. Who coordinates it?",
            "under whose direction is {s}?",
            "could you tell me the project manager on {s}",
        ),
    ),
    "sponsor": (
        (
            "Who is the sponsor of {s}?",
            "Who sponsors {s}?",
            "Which sponsor does {s} have?",
            "Please name the sponsor of {s}.",
        ),
        (
            "who in top management is backing {s}",
            "{s} patron",
            "On whose behalf in the board is {s} being done?",
            "{s} - who pays for it, name of the executive?",
            "Which executive stands behind {s}?",
            "who commissioned {s}",
            "I need to know the executive who champions {s}.",
            "Who holds a protecting hand over {s} up there?",
        ),
    ),
    "budget": (
        (
            "What is the budget of {s}?",
            "Which budget does {s} have?",
            "How high is the budget of {s}?",
            "Please state the budget of {s}.",
        ),
        (
            "how much money may {s} spend",
            "{s} funds",
            "What sum has been set aside for {s}?",
            "{s} - financial frame?",
            "how much funding did {s} get",
            "With how much cash is {s} equipped?",
            "I'd like to know what was allocated to {s}.",
            "what amount was approved for {s}",
        ),
    ),
    "start_date": (
        (
            "When does {s} start?",
            "What is the start date of {s}?",
            "On which day does {s} start?",
            "Please give the start date of {s}.",
        ),
        (
            "when do we kick off {s}",
            "{s} kickoff",
            "From what day on is work being done on {s}?",
            "{s} - begins?",
            "since when is {s} running, or when will it",
            "When is the first day of {s}?",
            "tell me when {s} gets going",
            "I want to be there at the beginning of {s}: what day?",
        ),
    ),
    "deadline": (
        (
            "What is the deadline of {s}?",
            "Which deadline does {s} have?",
            "When is the deadline of {s}?",
            "Please give the deadline of {s}.",
        ),
        (
            "by when does {s} have to be finished",
            "{s} due",
            "How long have we got for {s}, until which day?",
            "{s} - finish line?",
            "what day must {s} be completed",
            "When should {s} be wrapped up?",
            "I can't go on holiday before {s} is over. When's that?",
            "latest date for completing {s} pls",
        ),
    ),
    "cost_centre": (
        (
            "What is the cost centre of {s}?",
            "Which cost centre does {s} have?",
            "To which cost centre is {s} charged?",
            "Please give the cost centre of {s}.",
        ),
        (
            "where do I book hours for {s}",
            "{s} booking code",
            "I have a receipt for {s}. What do I book it on?",
            "{s} - accounting key?",
            "what do I put into the accounting field for {s}",
            "against which code do expenses of {s} go?",
            "Travel for {s}: which account in the ledger?",
            "could you tell me what finance code {s} uses",
        ),
    ),
}

CONTRACT: dict[str, Asked] = {
    "partner": (
        (
            "Who is the partner in {s}?",
            "With which company was {s} made?",
            "Which partner does {s} have?",
            "Please name the partner of {s}.",
        ),
        (
            "who is the other side in {s}",
            "{s} counterparty",
            "With whom did we sign {s}?",
            "{s} - the other firm?",
            "whom are we bound to by {s}",
            "{s} ties us to which business?",
            "who else put their name under {s}, what firm",
            "I'm filing {s}: under the name of which counterparty?",
        ),
    ),
    "start_date": (
        (
            "When does {s} start?",
            "What is the start date of {s}?",
            "From which day does {s} run?",
            "Please give the start date of {s}.",
        ),
        (
            "when does {s} come into force",
            "{s} effective from",
            "As of when are we bound by {s}?",
            "{s} - begins to apply?",
            "since when is {s} valid",
            "On what day does the term of {s} begin?",
            "the first day covered by {s}, please",
            "tell me when {s} kicked in",
        ),
    ),
    "end_date": (
        (
            "When does {s} end?",
            "What is the end date of {s}?",
            "Until which day does {s} run?",
            "Please give the end date of {s}.",
        ),
        (
            "when does {s} expire",
            "{s} expiry",
            "What is the last day on which {s} is valid?",
            "{s} - runs out?",
            "how long are we still tied by {s}, up to what date",
            "At what point does {s} lapse?",
            "I have to remember when {s} is over. What day is it?",
            "till when is {s} in force",
        ),
    ),
    "notice_period": (
        (
            "What is the notice period of {s}?",
            "Which notice period does {s} have?",
            "How long is the notice period of {s}?",
            "Please state the notice period of {s}.",
        ),
        (
            "how far ahead must we cancel {s}",
            "{s} cancellation",
            "If we want to get out of {s}, how much in advance do we have to say so?",
            "{s} - time to terminate?",
            "how quickly can one get out of {s}",
            "With how much warning can {s} be terminated?",
            "I'd like to cancel {s}. How long before?",
            "what advance warning does terminating {s} take",
        ),
    ),
    "value": (
        (
            "What is the value of {s}?",
            "Which value does {s} have?",
            "How high is the value of {s}?",
            "Please state the value of {s}.",
        ),
        (
            "how much is {s} worth",
            "{s} total amount",
            "What sum is {s} about?",
            "{s} - volume in money?",
            "how much money changes hands under {s}",
            "For the risk report: the volume of {s}?",
            "What's the worth of {s} in total?",
            "tell me the amount fixed in {s}",
        ),
    ),
    "signatory": (
        (
            "Who signed {s}?",
            "Who is the signatory of {s}?",
            "Which person signed {s} for us?",
            "Please name the signatory of {s}.",
        ),
        (
            "whose signature is under {s}",
            "{s} put to paper by",
            "Which of us put their name to {s}?",
            "{s} - whose autograph?",
            "by whom was {s} executed on our part",
            "Whose name stands at the bottom of {s}?",
            "the auditor asks whose signature {s} bears",
            "I need to know which colleague inked {s}.",
        ),
    ),
}

POLICY: dict[str, Asked] = {
    "owner": (
        (
            "Who is the owner of {s}?",
            "Who owns {s}?",
            "Which owner does {s} have?",
            "Please name the owner of {s}.",
        ),
        (
            "whom do I ask about {s}",
            "{s} responsible",
            "There is something unclear in {s}. Who answers questions on it?",
            "{s} - who maintains it?",
            "who is answerable for {s}",
            "In whose responsibility does {s} lie?",
            "which colleague keeps {s} up to date?",
            "I found a mistake in {s}; who is in charge of the text?",
        ),
    ),
    "approver": (
        (
            "Who approved {s}?",
            "Who is the approver of {s}?",
            "Which person approved {s}?",
            "Please name the approver of {s}.",
        ),
        (
            "who gave the green light for {s}",
            "{s} signed off by",
            "By whom was {s} released?",
            "{s} - authorised by?",
            "whose OK does {s} have",
            "Who said yes to {s}?",
            "tell me who passed {s}",
            "An auditor wants to know who rubber-stamped {s}.",
        ),
    ),
    "effective_date": (
        (
            "When does {s} take effect?",
            "What is the effective date of {s}?",
            "On which day did {s} take effect?",
            "Please give the effective date of {s}.",
        ),
        (
            "from when on do we have to follow {s}",
            "{s} valid from",
            "Since when has {s} been binding?",
            "{s} - in force as of?",
            "what day did {s} become binding",
            "As of what date must everyone comply with {s}?",
            "I acted before {s} applied, I think. When did it come in?",
            "tell me when {s} kicked in",
        ),
    ),
    "review_date": (
        (
            "When is the next review of {s}?",
            "What is the review date of {s}?",
            "On which day is {s} due for review?",
            "Please give the review date of {s}.",
        ),
        (
            "when will {s} be looked at again",
            "{s} next revision",
            "By when does {s} have to be revised?",
            "{s} - up for a check?",
            "when's {s} going to be gone over once more",
            "I have comments on {s}. When is it going to be reworked?",
            "what day is the revision of {s} planned for",
            "Tell me when somebody has to go through {s} again.",
        ),
    ),
    "document_number": (
        (
            "What is the document number of {s}?",
            "Which document number does {s} have?",
            "Under which document number is {s} filed?",
            "Please give the document number of {s}.",
        ),
        (
            "{s} doc id",
            "how do I find {s} in the archive, what reference",
            "I want to cite {s}. What reference do I use?",
            "{s} - file ref?",
            "which identifier does {s} carry in the archive",
            "Under what reference would I look up {s}?",
            "the form wants a reference for {s}, which one do I enter",
            "Could you tell me {s}'s filing code?",
        ),
    ),
}
