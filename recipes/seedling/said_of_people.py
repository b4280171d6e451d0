"""What is said of people, companies and teams: relations in words of their own (see `relations`)."""

from __future__ import annotations

from recipes.seedling.relations import Relation, written
from recipes.seedling.writer import Writer

W = Writer
PEOPLE: tuple[Relation, ...] = (
    written("person", "office|workplace|place of work", W.city,
        """{e} works in {v}.
        The office of {e} is in {v}.
        {e} is based in {v}.
        {e} has an office in {v}.
        {e} has a desk in the {v} office.
        {e} works at our office in {v}.
        You will find {e} in {v}.
        The desk of {e} is in {v}.""",
        """Where does {e} work?
        Where is {e} based?
        In which city does {e} work?
        In which city is {e} based?
        In which city is the office of {e}?
        Where do I find {e}?
        At which office does {e} work?
        In which place is the office of {e}?"""),
    written("person", "boss|manager|supervisor", W.person,
        """{e} reports to {v}.
        The boss of {e} is {v}.
        {v} supervises {e}.
        {v} is the manager of {e}.
        {v} is the boss of {e}.
        The manager of {e} is {v}.
        {e} works for {v}.
        {e} is supervised by {v}.
        {e} takes orders from {v}.
        {v} manages {e}.
        {e} has {v} as manager.
        {e} has {v} as supervisor.""",
        """Who does {e} report to?
        Who is the boss of {e}?
        Who supervises {e}?
        To whom does {e} report?
        Who is the manager of {e}?
        Who does {e} work for?
        By whom is {e} supervised?
        Who has {e} under supervision?"""),
    written("person", "phone extension|extension|telephone number", W.phone,
        """The extension of {e} is {v}.
        {e} can be called on {v}.
        Call {e} on {v}.
        {e} can be reached by phone on {v}.
        {e} answers the phone on {v}.
        To reach {e} by phone, dial {v}.
        Dial {v} for {e}.
        To call {e}, dial {v}.""",
        """How can I call {e}?
        What number do I dial for {e}?
        On which extension is {e}?
        Which number do I call for {e}?
        On what number can {e} be called?
        Which extension do I dial to reach {e}?
        How can {e} be reached by phone?
        What number do I dial to reach {e}?"""),
    written("person", "job|role|position", W.title,
        """{e} works as {v}.
        {e} is employed as {v}.
        The job of {e} is {v}.
        {e} has a job as {v}.
        {e} was hired as {v}.
        {e} has the role of {v}.
        {e} fills the position of {v}.
        {e} has the position of {v}.""",
        """What does {e} do?
        What is {e} employed as?
        As what does {e} work?
        As what is {e} employed?
        What job does {e} have?
        Which position does {e} fill?
        What kind of job does {e} do?
        Which job does {e} do?"""),
    written("person", "start date|first day|joining date", W.date,
        """{e} joined on {v}.
        {e} started on {v}.
        The first day of {e} was {v}.
        {e} started work on {v}.
        {e} has been with us since {v}.
        {e} joined us on {v}.
        {e} has worked here since {v}.
        {e} has been here since {v}.""",
        """When did {e} join?
        When did {e} start?
        On which day did {e} join?
        On which day did {e} start?
        Since when has {e} been with us?
        Since when has {e} worked here?
        When was the first day of {e}?
        When did {e} start to work here?"""),
    written("person", "department", W.department,
        """{e} works in the {v} department.
        {e} belongs to {v}.
        {e} is part of {v}.
        {e} is in the {v} department.
        {e} sits with {v}.
        {e} is a member of the {v} department.
        The department of {e} is {v}.
        {e} belongs to the {v} department.""",
        """In which department is {e}?
        Which department does {e} work in?
        What department is {e} in?
        Which department is {e} in?
        Of which department is {e} a member?
        Which department does {e} belong to?
        To which department does {e} belong?
        In which department does {e} work?"""),
    written("person", "email|email address|mail address", W.email,
        """The email of {e} is {v}.
        {e} can be reached at {v}.
        Write to {e} at {v}.
        You can write to {e} at {v}.
        {e} reads mail sent to {v}.
        Send mail for {e} to {v}.
        The address to write to {e} is {v}.
        Mail for {e} goes to {v}.""",
        """How can I write to {e}?
        At which address do I email {e}?
        Where do I send mail for {e}?
        At which address do I write to {e}?
        What is the email of {e}?
        Which address do I use to write to {e}?
        To which address do I send mail for {e}?
        Where do I send an email for {e}?"""),
    written("person", "salary|pay|monthly pay", W.money,
        """{e} earns {v} a month.
        The salary of {e} is {v}.
        We pay {e} {v} a month.
        {e} has a salary of {v}.
        {e} is paid {v}.
        Each month {e} earns {v}.
        {e} gets {v} in pay each month.
        {e} is paid {v} each month.""",
        """How much does {e} earn?
        What does {e} earn in a month?
        What do we pay {e}?
        What does {e} earn?
        How much is {e} paid?
        How large is the salary of {e}?
        How much do we pay {e}?
        What is {e} paid?"""),
    written("person", "day off|free day", W.weekday,
        """{e} is off on {v}.
        {e} does not work on {v}.
        {v} is the day off of {e}.
        {e} has {v} off.
        {e} takes {v} off.
        On {v}, {e} does not work.
        {e} stays at home on {v}.
        On {v}, {e} is off.""",
        """On which day is {e} off?
        When does {e} not work?
        Which day does {e} take off?
        Which day is {e} off?
        On which day does {e} stay at home?
        Which day of the week is free for {e}?
        When is {e} off?
        On which day of the week is {e} off?"""),
    written("person", "deputy|stand-in|replacement", W.person,
        """{v} stands in for {e}.
        The deputy of {e} is {v}.
        When {e} is away, ask {v}.
        {v} is the deputy of {e}.
        {v} replaces {e} in the holidays.
        {e} is replaced by {v} when away.
        {v} takes over when {e} is away.
        When {e} is away, {v} stands in.""",
        """Who stands in for {e}?
        Who takes over when {e} is away?
        Who is the deputy of {e}?
        Who stands in when {e} is away?
        Who replaces {e}?
        Whom do I ask when {e} is away?
        By whom is {e} replaced?
        Who replaces {e} in the holidays?"""),
    written("company", "account number|customer number", W.code,
        """The account number of {e} is {v}.
        {e} is billed on account {v}.
        {e} has the account number {v}.
        We bill {e} on account {v}.
        We bill {e} under the number {v}.
        {e} is in our books as customer {v}.
        Bills for {e} go to account {v}.
        {e} has account {v}.""",
        """On which account is {e} billed?
        Which account does {e} have?
        Which account do I bill for {e}?
        On which account do we bill {e}?
        Under what number do we bill {e}?
        To which account do bills for {e} go?
        What number does {e} have in our books?
        Under which number is {e} billed?"""),
    written("company", "head office|headquarters|main office", W.city,
        """{e} has its head office in {v}.
        {e} has its headquarters in {v}.
        The head office of {e} is in {v}.
        The headquarters of {e} are in {v}.
        {e} is run from {v}.
        {v} is home to the head office of {e}.
        {e} moved its headquarters to {v}.
        {e} is run from its head office in {v}.""",
        """Where does {e} have its head office?
        Where is the head office of {e}?
        From where is {e} run?
        In which city does {e} have its head office?
        From which city is {e} run?
        In which city are the headquarters of {e}?
        Where are the headquarters of {e}?
        In which city does {e} have its head office?"""),
    written("company", "founder", W.person,
        """{e} was founded by {v}.
        {v} founded {e}.
        {v} started {e}.
        {e} was started by {v}.
        The founder of {e} is {v}.
        {v} set up {e}.
        It was {v} who founded {e}.
        It was {v} who set up {e}.""",
        """Who founded {e}?
        Who started {e}?
        By whom was {e} founded?
        By whom was {e} started?
        Who is the founder of {e}?
        Who set up {e}?
        Which person founded {e}?
        Which person started {e}?"""),
    written("company", "number of employees|headcount|staff size", W.count,
        """{e} has {v} employees.
        {e} employs {v} people.
        {v} people work at {e}.
        {e} has {v} people on its staff.
        The staff of {e} counts {v} people.
        {e} gives work to {v} people.
        There are {v} employees at {e}.
        There are {v} people on the staff of {e}.""",
        """How many people work at {e}?
        How many employees does {e} have?
        How many people does {e} employ?
        How many people are on the staff of {e}?
        How large is the staff of {e}?
        To how many people does {e} give work?
        How many employees are there at {e}?
        How many people are employed at {e}?"""),
    written("company", "payment term|payment time", W.duration,
        """{e} pays within {v}.
        {e} has {v} to pay.
        Invoices to {e} are due after {v}.
        {e} pays its invoices within {v}.
        We give {e} {v} to pay its invoices.
        {e} must pay within {v}.
        {e} settles its invoices after {v}.
        {e} must settle its invoices within {v}.""",
        """How long does {e} have to pay?
        Within what time does {e} pay?
        After how long are invoices to {e} due?
        Within what time must {e} pay?
        How much time do we give {e} to pay?
        How long does {e} take to settle an invoice?
        How long can {e} wait before it pays?
        How long does {e} take to pay?"""),
    written("company", "turnover|sales figure|revenue", W.money,
        """{e} had sales of {v} last year.
        The turnover of {e} is {v}.
        {e} sold goods for {v} last year.
        {e} has a turnover of {v}.
        {e} turned over {v} last year.
        {e} made sales of {v} in a year.
        The sales of {e} reached {v}.
        The sales of {e} last year were {v}.""",
        """How much did {e} sell last year?
        How large is the turnover of {e}?
        What sales did {e} make?
        How large were the sales of {e}?
        How much did {e} turn over?
        What did the sales of {e} reach?
        What is the turnover of {e}?
        How much did {e} make in sales last year?"""),
    written("company", "account manager|customer adviser", W.person,
        """{v} looks after {e}.
        {e} is looked after by {v}.
        {v} takes care of {e} for us.
        {v} is the account manager for {e}.
        For {e}, our account manager is {v}.
        {v} handles our business with {e}.
        {e} is in the care of {v}.
        Our business with {e} is looked after by {v}.""",
        """Who looks after {e}?
        Who takes care of {e} for us?
        Who handles our business with {e}?
        By whom is {e} looked after?
        Which of us looks after {e}?
        In whose care is {e}?
        Who is the account manager for {e}?
        Who looks after our business with {e}?"""),
    written("team", "leader|head|team lead", W.person,
        """{v} leads {e}.
        {e} is led by {v}.
        {v} is the head of {e}.
        {v} heads {e}.
        The head of {e} is {v}.
        {e} has {v} as its leader.
        {v} is the leader of {e}.
        {e} has {v} as its head.""",
        """Who leads {e}?
        Who is the head of {e}?
        By whom is {e} led?
        Who heads {e}?
        Who is the leader of {e}?
        Which person heads {e}?
        Who does {e} have as its leader?
        Who does {e} have as its head?"""),
    written("team", "size|number of members|strength", W.count,
        """{e} has {v} members.
        There are {v} people in {e}.
        {e} counts {v} people.
        {e} counts {v} members.
        {v} people belong to {e}.
        {e} is made up of {v} people.
        {e} consists of {v} members.
        {e} consists of {v} people.""",
        """How many members does {e} have?
        How many people are there in {e}?
        How many people belong to {e}?
        How many members are there in {e}?
        How large is {e}?
        Of how many people is {e} made up?
        How many people does {e} consist of?
        How many members does {e} count?"""),
    written("team", "team room|office|place", W.room,
        """{e} sits in {v}.
        {e} works in {v}.
        You can find {e} in {v}.
        In {v} you can find {e}.
        {e} has moved to {v}.
        The place of {e} is {v}.
        {e} has its desks in {v}.
        {e} sits at its desks in {v}.""",
        """Where does {e} sit?
        Where can I find {e}?
        In which room does {e} sit?
        In which room can I find {e}?
        To where has {e} moved?
        In which part of the building is {e}?
        Where does {e} have its desks?
        In which part of the building does {e} sit?"""),
    written("team", "meeting day|team day", W.weekday,
        """{e} meets on {v}.
        {e} has its meeting on {v}.
        Every {v}, {e} meets.
        {e} meets every {v}.
        The meeting of {e} is on {v}.
        On {v}, {e} comes together.
        {e} comes together every {v}.
        On {v}, {e} has its meeting.""",
        """On which day does {e} meet?
        When does {e} meet?
        When is the meeting of {e}?
        On which day does {e} come together?
        On which day is the meeting of {e}?
        When does {e} come together?
        On which day of the week does {e} meet?
        When does {e} have its meeting?"""),
    written("team", "budget|team budget", W.money,
        """{e} has {v} to spend.
        The budget for {e} is {v}.
        {e} was given a budget of {v}.
        {e} was given {v} to spend.
        {e} can spend {v}.
        We gave {e} {v} to spend.
        The money that {e} can spend is {v}.
        The money for {e} is {v}.""",
        """How much can {e} spend?
        How much was {e} given to spend?
        What budget was {e} given?
        How much does {e} have to spend?
        How much money can {e} spend?
        How much money was {e} given?
        How large is the budget for {e}?
        What can {e} spend?"""),
)  # fmt: skip
