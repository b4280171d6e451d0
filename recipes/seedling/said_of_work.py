"""What is said of projects, events, rules, policies and contracts: relations in words of their own."""

from __future__ import annotations

from recipes.seedling.relations import Relation, written
from recipes.seedling.writer import Writer

W = Writer
WORK: tuple[Relation, ...] = (
    written("project", "budget", W.money,
        """The budget of {e} is {v}.
        {e} has a budget of {v}.
        {e} may spend {v}.
        {e} may spend {v} at most.
        {v} is set aside for {e}.
        We set aside {v} for {e}.
        {e} may cost {v} at most.
        A budget of {v} is set aside for {e}.""",
        """How much may {e} spend?
        How much money does {e} have?
        How large is the budget of {e}?
        How large a budget does {e} have?
        How much is set aside for {e}?
        What sum did we set aside for {e}?
        What may {e} cost at most?
        What sum is set aside for {e}?"""),
    written("project", "leader|project lead", W.person,
        """{e} is run by {v}.
        {v} takes the lead in {e}.
        {v} is in charge of {e}.
        {v} is the one in charge of {e}.
        {v} runs {e}.
        The lead of {e} is {v}.
        We put {v} in charge of {e}.
        The person who runs {e} is {v}.""",
        """Who runs {e}?
        Who is in charge of {e}?
        Who takes the lead in {e}?
        Which person is in charge of {e}?
        By whom is {e} run?
        Who is the lead of {e}?
        Whom did we put in charge of {e}?
        Which person runs {e}?"""),
    written("project", "deadline|due date|end date", W.date,
        """{e} must be finished by {v}.
        The deadline of {e} is {v}.
        {e} is due on {v}.
        {e} has to be finished by {v}.
        {e} ends on {v}.
        {e} has to be done by {v}.
        {e} must end on {v}.
        {e} must be done by {v}.""",
        """When is {e} due?
        By when must {e} be finished?
        When does {e} have to be done?
        When must {e} be finished?
        When does {e} end?
        By when does {e} have to be finished?
        On which day does {e} end?
        By when must {e} be done?"""),
    written("project", "client|customer", W.company,
        """{e} is done for {v}.
        We do {e} for {v}.
        The client of {e} is {v}.
        {v} is the client of {e}.
        {v} pays for {e}.
        {v} ordered {e} from us.
        {e} is paid for by {v}.
        {e} was ordered by {v}.""",
        """For whom is {e} done?
        Who is the client of {e}?
        Who pays for {e}?
        For whom do we do {e}?
        Which company pays for {e}?
        Which client ordered {e}?
        By whom is {e} paid for?
        Which company ordered {e}?"""),
    written("project", "duration|running time|length", W.duration,
        """{e} takes {v}.
        {e} will last {v}.
        {e} runs for {v}.
        {e} will take {v}.
        We need {v} for {e}.
        The work on {e} lasts {v}.
        The work on {e} takes {v} in all.
        The work on {e} will last {v}.""",
        """How long does {e} take?
        How long will {e} last?
        For how long does {e} run?
        How long will {e} take?
        How much time do we need for {e}?
        How long does the work on {e} last?
        How long do we need for {e}?
        How long will the work on {e} take?"""),
    written("project", "progress|progress so far", W.percent,
        """{e} is {v} done.
        {v} of {e} is done.
        {v} of {e} is finished.
        {e} is {v} finished.
        {v} of the work on {e} is done.
        So far {v} of {e} is complete.
        {e} is {v} complete.
        So far {e} is {v} done.""",
        """How much of {e} is done?
        How much of {e} is finished?
        What share of {e} is done?
        What share of {e} is finished?
        How much of the work on {e} is done?
        What part of {e} is complete?
        How complete is {e}?
        How much of {e} is complete?"""),
    written("event", "place|location|room", W.room,
        """{e} takes place in {v}.
        {e} is held in {v}.
        {e} will be in {v}.
        {e} will take place in {v}.
        Come to {v} for {e}.
        {v} is booked for {e}.
        We hold {e} in {v}.
        {e} will be held in {v}.""",
        """Where does {e} take place?
        Where is {e} held?
        In which room is {e}?
        In which room is {e} held?
        Where do I go for {e}?
        Which room is booked for {e}?
        Where do we hold {e}?
        Where will {e} be held?"""),
    written("event", "start time|time", W.time,
        """{e} starts at {v}.
        {e} begins at {v}.
        We start {e} at {v}.
        {e} will start at {v}.
        At {v}, {e} opens.
        The start of {e} is at {v}.
        Be there at {v} for {e}.
        We begin {e} at {v}.""",
        """At what time does {e} start?
        When does {e} begin?
        At which hour does {e} start?
        At what time does {e} begin?
        At what time does {e} open?
        At what hour do I have to be there for {e}?
        At what hour is the start of {e}?
        At which hour does {e} begin?"""),
    written("event", "speaker|main speaker", W.person,
        """{v} speaks at {e}.
        {v} gives the talk at {e}.
        The talk at {e} is given by {v}.
        {v} will speak at {e}.
        The speaker at {e} is {v}.
        {e} has {v} as its speaker.
        At {e}, {v} is to speak.
        At {e}, {v} will speak.""",
        """Who speaks at {e}?
        Who gives the talk at {e}?
        Who is the speaker at {e}?
        Who will speak at {e}?
        By whom is the talk at {e} given?
        Which person speaks at {e}?
        Who gives a talk at {e}?
        Which person gives the talk at {e}?"""),
    written("event", "entry fee|ticket price", W.money,
        """A ticket for {e} costs {v}.
        Guests pay {v} for {e}.
        Entry to {e} costs {v}.
        Entry to {e} costs each guest {v}.
        Each guest of {e} pays {v}.
        Tickets for {e} are sold at {v}.
        You pay {v} to get into {e}.
        You pay {v} for a ticket for {e}.""",
        """How much is a ticket for {e}?
        What do guests pay for {e}?
        How much does entry to {e} cost?
        How much does a ticket for {e} cost?
        What does each guest of {e} pay?
        How much do I pay to get into {e}?
        At what price are tickets for {e} sold?
        What do I pay for a ticket for {e}?"""),
    written("event", "number of places|seat count", W.count,
        """{e} has room for {v} guests.
        {v} guests can come to {e}.
        There are {v} places at {e}.
        {e} has places for {v} guests.
        {e} can take {v} guests.
        At most {v} people can come to {e}.
        {e} is open to {v} people.
        There is room for {v} people at {e}.""",
        """How many guests can come to {e}?
        How many places are there at {e}?
        For how many guests does {e} have room?
        How many guests can {e} take?
        How many people can come to {e}?
        To how many people is {e} open?
        How many places does {e} have?
        For how many people is there room at {e}?"""),
    written("event", "length|duration", W.duration,
        """{e} lasts {v}.
        {e} goes on for {v}.
        {e} is over after {v}.
        {e} lasts for {v}.
        Plan {v} for {e}.
        Guests stay {v} at {e}.
        After {v}, {e} is over.
        {e} is planned to last {v}.""",
        """How long does {e} last?
        For how long does {e} go on?
        After how long is {e} over?
        How long does {e} go on?
        How much time do I plan for {e}?
        How long do guests stay at {e}?
        For how long is {e} planned?
        How long is {e} planned to last?"""),
    written("rule", "approver|signer", W.person,
        """{v} signs off {e}.
        {v} approves {e}.
        {e} must be approved by {v}.
        {e} must be signed off by {v}.
        {e} needs the signature of {v}.
        {v} has to approve {e}.
        Ask {v} to sign off {e}.
        {v} has to sign off {e}.
        {v} decides on {e}.
        The approver of {e} is {v}.
        {e} is signed off by {v}.
        {e} needs the approval of {v}.""",
        """Who signs off {e}?
        Who approves {e}?
        Who must approve {e}?
        Who must sign off {e}?
        Whose signature is needed for {e}?
        Who has to approve {e}?
        Whom do I ask to sign off {e}?
        Whom do I ask to approve {e}?
        Who decides on {e}?
        By whom must {e} be approved?
        Whose approval is needed for {e}?
        Who has to sign off {e}?"""),
    written("rule", "form number|form", W.code,
        """Use form {v} for {e}.
        {e} must be reported on form {v}.
        Fill in form {v} for {e}.
        Report {e} on form {v}.
        The form for {e} is {v}.
        Form {v} is used for {e}.
        {e} needs form {v}.
        For {e}, fill in form {v}.""",
        """Which form do I use for {e}?
        Which form do I fill in for {e}?
        On which form is {e} reported?
        Which form is used for {e}?
        What is the form for {e}?
        Which form is needed for {e}?
        On which form do I report {e}?
        What form do I need for {e}?"""),
    written("rule", "time limit|deadline", W.duration,
        """{e} must be reported within {v}.
        Report {e} within {v}.
        Claims for {e} are due within {v}.
        {e} has to be reported within {v}.
        You have {v} to report {e}.
        Send in claims for {e} within {v}.
        After {v}, {e} can no longer be reported.
        Claims for {e} must be sent in within {v}.""",
        """Within what time must {e} be reported?
        How long do I have to report {e}?
        Within what time are claims for {e} due?
        Within what time do I have to report {e}?
        How soon must {e} be reported?
        How much time do I have to report {e}?
        How soon do I have to send in claims for {e}?
        How much time do I have to send in claims for {e}?"""),
    written("policy", "limit|upper limit", W.money,
        """{e} sets a limit of {v}.
        Under {e}, you may spend {v}.
        {e} allows {v} at most.
        {e} allows you to spend {v}.
        {e} pays up to {v}.
        The limit in {e} is {v}.
        Up to {v} is allowed by {e}.
        Under {e}, up to {v} is allowed.""",
        """What limit does {e} set?
        How much does {e} allow at most?
        How much may I spend under {e}?
        How much does {e} allow?
        Up to what sum does {e} pay?
        How high is the limit in {e}?
        What is the limit in {e}?
        How much does {e} allow me to spend?"""),
    written("policy", "author|writer", W.person,
        """{v} wrote {e}.
        {e} was written by {v}.
        The author of {e} is {v}.
        {v} is the author of {e}.
        {e} comes from the pen of {v}.
        It was {v} who wrote {e}.
        {v} drew up {e}.
        It was {v} who drew up {e}.""",
        """Who wrote {e}?
        By whom was {e} written?
        Who is the author of {e}?
        Which person wrote {e}?
        Who drew up {e}?
        By whom was {e} drawn up?
        From whose pen does {e} come?
        Which person is the author of {e}?"""),
    written("policy", "start date|effective date", W.date,
        """{e} is valid from {v}.
        {e} applies from {v}.
        {e} comes into force on {v}.
        {e} is in force from {v}.
        From {v}, {e} is valid.
        {e} starts to apply on {v}.
        We follow {e} from {v}.
        {e} starts to be valid on {v}.""",
        """From when is {e} valid?
        When does {e} come into force?
        From when does {e} apply?
        From when is {e} in force?
        From which day is {e} valid?
        When does {e} start to apply?
        From when do we follow {e}?
        From which day does {e} apply?"""),
    written("policy", "covered department|scope", W.department,
        """{e} covers the {v} department.
        {e} is for the {v} department.
        Only the {v} department must follow {e}.
        {e} is only for the {v} department.
        {e} binds the {v} department.
        {e} was made for the {v} department.
        The {v} department is covered by {e}.
        The {v} department must follow {e}.""",
        """Which department does {e} cover?
        For which department is {e}?
        Which department must follow {e}?
        For which department was {e} made?
        Which department does {e} bind?
        Which department is covered by {e}?
        What department is {e} for?
        What department does {e} cover?"""),
    written("policy", "document number|reference", W.code,
        """{e} is filed under {v}.
        The document number of {e} is {v}.
        {e} is document {v}.
        {e} is filed with the document number {v}.
        Document {v} holds {e}.
        You find {e} under {v}.
        We filed {e} under the number {v}.
        You find {e} in document {v}.""",
        """Under which number is {e} filed?
        Which document holds {e}?
        What is the document number of {e}?
        Under which number do I find {e}?
        Which document number does {e} have?
        Under what number is {e} filed?
        In which document do I find {e}?
        Under what number did we file {e}?"""),
    written("contract", "partner|other party", W.company,
        """We made {e} with {v}.
        {e} is with {v}.
        The partner in {e} is {v}.
        {e} was made with {v}.
        Our partner in {e} is {v}.
        {v} agreed to {e}.
        {e} ties us to {v}.
        {v} is our partner in {e}.""",
        """With whom did we make {e}?
        Who is our partner in {e}?
        With which company is {e}?
        With whom was {e} made?
        Which company agreed to {e}?
        To which company does {e} tie us?
        With which partner did we make {e}?
        Which company is our partner in {e}?"""),
    written("contract", "signer|signatory", W.person,
        """{v} signed {e}.
        {e} was signed by {v}.
        {e} bears the signature of {v}.
        It was {v} who signed {e}.
        The signature under {e} is that of {v}.
        {v} put a signature under {e}.
        {v} has signed {e} for us.
        {e} has been signed by {v}.""",
        """Who signed {e}?
        By whom was {e} signed?
        Whose signature does {e} bear?
        Which person signed {e}?
        Whose signature is under {e}?
        Who put a signature under {e}?
        Who has signed {e} for us?
        Who was the signer of {e}?"""),
    written("contract", "value|worth", W.money,
        """{e} is worth {v}.
        The value of {e} is {v}.
        {e} has a value of {v}.
        {e} comes to a worth of {v}.
        {e} brings us {v}.
        We earn {v} from {e}.
        {e} was valued at {v}.
        We value {e} at {v}.""",
        """How much is {e} worth?
        What is {e} worth?
        What value does {e} have?
        What worth does {e} come to?
        How much does {e} bring us?
        How much do we earn from {e}?
        At how much was {e} valued?
        At how much do we value {e}?"""),
    written("contract", "expiry date|last day", W.date,
        """{e} expires on {v}.
        {e} runs out on {v}.
        The last day of {e} is {v}.
        {e} will run out on {v}.
        {e} runs until {v}.
        {e} is good until {v}.
        {e} comes to an end on {v}.
        {e} will expire on {v}.""",
        """When does {e} expire?
        When does {e} run out?
        Until when does {e} run?
        When will {e} run out?
        When is the last day of {e}?
        Until when is {e} good?
        When does {e} come to an end?
        When will {e} expire?"""),
    written("contract", "notice period|notice", W.duration,
        """{e} can be ended with {v} of notice.
        The notice for {e} is {v}.
        {e} needs {v} of notice.
        The notice needed to end {e} is {v}.
        To end {e}, give {v} of notice.
        {e} has a notice period of {v}.
        You must give {v} of notice to end {e}.
        To end {e}, you need {v} of notice.""",
        """How much notice does {e} need?
        How much notice do I give to end {e}?
        How long is the notice period of {e}?
        How much notice is needed to end {e}?
        With how much notice can {e} be ended?
        What notice does {e} need?
        How long is the notice for {e}?
        How much notice must be given to end {e}?"""),
)  # fmt: skip
