"""What is said of products, orders, sites and machines: relations in words of their own (see `relations`)."""

from __future__ import annotations

from recipes.seedling.relations import Relation, area, power, weight, written
from recipes.seedling.writer import Writer

W = Writer
THINGS: tuple[Relation, ...] = (
    written("product", "price|list price|cost|sales price", W.money,
        """{e} costs {v}.
        The price of {e} is {v}.
        Customers pay {v} for {e}.
        You can buy {e} at {v}.
        {e} is sold for {v}.
        {e} is listed at {v}.
        {e} is on sale at {v}.
        {e} goes on sale at {v}.
        You can buy {e} for {v}.
        The shop asks {v} for {e}.
        {e} can be had for {v}.
        In the shop, {e} costs {v}.""",
        """How much does {e} cost?
        What does {e} cost?
        What do customers pay for {e}?
        For how much is {e} sold?
        How much is {e}?
        At what price is {e} listed?
        I want to buy {e}; how much is it?
        How much do customers pay for {e}?
        What do I have to pay for {e}?
        At what price do we sell {e}?
        For how much can I buy {e}?
        What does it cost to buy {e}?"""),
    written("product", "part number|item number|order code", W.code,
        """The part number of {e} is {v}.
        {e} has part number {v}.
        Part number {v} belongs to {e}.
        {e} is sold with the part number {v}.
        {e} is stocked as {v}.
        {e} is in the catalogue as {v}.
        To get {e}, order {v}.
        In the catalogue, {e} is {v}.""",
        """Under which part number is {e} stocked?
        I need to order {e}; which part number is it?
        Which part number do I order for {e}?
        Which part number does {e} have?
        Which number does {e} have in the catalogue?
        Under which number is {e} in the catalogue?
        Which part number belongs to {e}?
        Under which part number do I order {e}?"""),
    written("product", "launch date|release date", W.date,
        """{e} was launched on {v}.
        {e} went on sale on {v}.
        The launch of {e} was on {v}.
        The release of {e} was on {v}.
        {e} was released on {v}.
        {e} came out on {v}.
        {e} has been on sale since {v}.
        We launched {e} on {v}.""",
        """When was {e} launched?
        When did {e} come out?
        On which day was {e} released?
        On which day was {e} launched?
        When did {e} go on sale?
        When was the launch of {e}?
        Since when has {e} been on sale?
        When was {e} released?"""),
    written("product", "weight", weight,
        """{e} weighs {v}.
        The weight of {e} is {v}.
        {e} has a weight of {v}.
        {e} weighs in at {v}.
        {e} is {v} heavy.
        On the scale, {e} weighs {v}.
        The scale shows {v} for {e}.
        On the scale, {e} shows {v}.""",
        """How much does {e} weigh?
        How heavy is {e}?
        What does {e} weigh?
        How heavy is {e} on the scale?
        What weight does {e} have?
        How many kilograms does {e} weigh?
        What does {e} weigh on the scale?
        How much weight does {e} have?"""),
    written("product", "maker|manufacturer|producer", W.company,
        """{e} is made by {v}.
        {v} makes {e}.
        {v} builds {e}.
        The firm that builds {e} is {v}.
        {e} comes from {v}.
        The maker of {e} is {v}.
        {e} was made by {v}.
        {v} is the maker of {e}.""",
        """Who makes {e}?
        Which company makes {e}?
        Which firm builds {e}?
        Which firm makes {e}?
        By whom is {e} made?
        Who is the maker of {e}?
        Who builds {e}?
        Which company builds {e}?"""),
    written("product", "warranty|guarantee|warranty period", W.duration,
        """{e} has a warranty of {v}.
        The warranty of {e} lasts {v}.
        {e} comes with {v} of warranty.
        {e} comes with a warranty of {v}.
        The guarantee on {e} runs for {v}.
        {e} is under warranty for {v}.
        We give a guarantee of {v} on {e}.
        {e} has a guarantee of {v}.""",
        """How long is the warranty on {e}?
        How long is {e} under warranty?
        For how long does the guarantee on {e} run?
        For how long is {e} under warranty?
        How long does the guarantee on {e} run?
        How long a guarantee do we give on {e}?
        How long a warranty does {e} have?
        How long does {e} have its warranty?"""),
    written("product", "stock|stock level", W.count,
        """We have {v} pieces of {e} in stock.
        {v} pieces of {e} are left.
        There are {v} of {e} in stock.
        There are {v} pieces of {e} left.
        Our stock of {e} is {v}.
        The shelf holds {v} pieces of {e}.
        We hold {v} of {e} in stock.
        We have {v} of {e} left in stock.""",
        """How many of {e} are in stock?
        How many pieces of {e} are left?
        How many of {e} do we have in stock?
        How many pieces of {e} are in stock?
        How large is our stock of {e}?
        How many pieces of {e} does the shelf hold?
        How many of {e} do we hold?
        How many of {e} are left in stock?"""),
    written("product", "designer", W.person,
        """{v} designed {e}.
        {e} was designed by {v}.
        The design of {e} is by {v}.
        {v} is the designer of {e}.
        {e} was drawn by {v}.
        It was {v} who designed {e}.
        The designer of {e} was {v}.
        It was {v} who drew {e}.""",
        """Who designed {e}?
        By whom was {e} designed?
        Who is the designer of {e}?
        Which person designed {e}?
        Who drew {e}?
        Who made the design of {e}?
        By whom is the design of {e}?
        Who was the designer of {e}?"""),
    written("product", "warehouse|store", W.city,
        """{e} is kept in {v}.
        {e} is stored in {v}.
        We keep {e} in {v}.
        We store {e} in {v}.
        The warehouse with {e} is in {v}.
        {e} lies in our warehouse in {v}.
        Our warehouse in {v} keeps {e}.
        {e} is kept in our warehouse in {v}.""",
        """Where is {e} kept?
        Where is {e} stored?
        In which city do we keep {e}?
        In which city is {e} stored?
        Where do we keep {e}?
        In which city is the warehouse with {e}?
        Which warehouse keeps {e}?
        In which warehouse is {e} kept?"""),
    written("product", "colour|paint colour", W.colour,
        """{e} is {v}.
        {e} comes in {v}.
        The colour of {e} is {v}.
        {e} is painted in {v}.
        We paint {e} {v}.
        {e} is sold in {v}.
        {e} has a {v} finish.
        {e} has a {v} colour.""",
        """Which colour is {e}?
        In which colour does {e} come?
        What colour is {e}?
        In what colour does {e} come?
        In which colour is {e} painted?
        Which colour does {e} have?
        In which colour is {e} sold?
        What colour does {e} have?"""),
    written("order", "delivery date|arrival date", W.date,
        """{e} arrives on {v}.
        {e} will be delivered on {v}.
        The delivery of {e} is on {v}.
        {e} will arrive on {v}.
        Expect {e} on {v}.
        You will get {e} on {v}.
        We deliver {e} on {v}.
        {e} is delivered on {v}.""",
        """When does {e} arrive?
        When will {e} be delivered?
        On which day does {e} arrive?
        When will {e} arrive?
        When can I expect {e}?
        When do we deliver {e}?
        When is the delivery of {e}?
        On which day will {e} be delivered?"""),
    written("order", "customer|buyer", W.company,
        """{e} was placed by {v}.
        {v} placed {e}.
        {e} is for {v}.
        {v} sent in {e}.
        The customer of {e} is {v}.
        {v} sent us {e}.
        {e} was sent in by {v}.
        {v} is the customer of {e}.""",
        """Who placed {e}?
        Which company placed {e}?
        For whom is {e}?
        By whom was {e} placed?
        Who sent us {e}?
        Which customer placed {e}?
        For which company is {e}?
        For which customer is {e}?"""),
    written("order", "total|sum|amount", W.money,
        """{e} comes to {v}.
        The total of {e} is {v}.
        {e} adds up to {v}.
        {e} comes to a total of {v}.
        {v} must be paid for {e}.
        The customer pays {v} for {e}.
        The sum of {e} is {v}.
        {e} adds up to a sum of {v}.""",
        """How much does {e} come to?
        What does {e} add up to?
        How much must be paid for {e}?
        How much does {e} add up to?
        What does the customer pay for {e}?
        What is the total of {e}?
        To what total does {e} come?
        What does {e} come to?"""),
    written("order", "quantity|number of pieces", W.count,
        """{e} has {v} pieces.
        {e} is for {v} pieces.
        There are {v} items in {e}.
        There are {v} pieces in {e}.
        {v} pieces were ordered in {e}.
        {e} holds {v} items.
        {v} items belong to {e}.
        {v} items were ordered in {e}.""",
        """How many pieces does {e} have?
        For how many pieces is {e}?
        How many items are there in {e}?
        How many pieces are there in {e}?
        How many pieces were ordered in {e}?
        How many items does {e} hold?
        How many items belong to {e}?
        How many items were ordered in {e}?"""),
    written("order", "destination|place of delivery", W.city,
        """{e} goes to {v}.
        {e} is on its way to {v}.
        We ship {e} to {v}.
        {e} is shipped to {v}.
        {e} has to be brought to {v}.
        The destination of {e} is {v}.
        {e} travels to {v}.
        {e} will be shipped to {v}.""",
        """Where does {e} go?
        To which city do we ship {e}?
        To which city is {e} on its way?
        To which city does {e} go?
        Where do we ship {e}?
        To where is {e} shipped?
        To which city does {e} travel?
        To which city is {e} shipped?"""),
    written("order", "invoice number|invoice", W.code,
        """The invoice for {e} is {v}.
        {e} is billed with invoice {v}.
        Invoice {v} is for {e}.
        Invoice {v} belongs to {e}.
        {e} has the invoice number {v}.
        We wrote invoice {v} for {e}.
        {e} was billed on invoice {v}.
        We billed {e} with invoice {v}.""",
        """Which invoice is for {e}?
        With which invoice is {e} billed?
        Which invoice number does {e} have?
        Which invoice belongs to {e}?
        Which invoice did we write for {e}?
        On which invoice was {e} billed?
        What is the invoice for {e}?
        With which invoice was {e} billed?"""),
    written("order", "carrier|transport firm", W.company,
        """{v} brings {e}.
        {e} is brought by {v}.
        {v} carries {e}.
        {v} will carry {e}.
        {e} travels with {v}.
        The carrier of {e} is {v}.
        We gave {e} to {v} to carry.
        {v} is the carrier of {e}.""",
        """Who brings {e}?
        Which company carries {e}?
        Who is the carrier of {e}?
        Who carries {e}?
        With which carrier does {e} travel?
        By whom is {e} brought?
        Which carrier brings {e}?
        Which company brings {e}?"""),
    written("site", "manager|site manager", W.person,
        """{v} manages {e}.
        {e} is managed by {v}.
        The manager at {e} is {v}.
        {v} is the manager at {e}.
        {e} is in the care of {v}.
        {v} is responsible for {e}.
        {v} leads the work at {e}.
        The person responsible for {e} is {v}.""",
        """Who manages {e}?
        By whom is {e} managed?
        Who is the manager at {e}?
        Which person manages {e}?
        Who leads the work at {e}?
        Who is responsible for {e}?
        In whose care is {e}?
        Which person is responsible for {e}?"""),
    written("site", "size|floor space|area", area,
        """{e} covers {v}.
        {e} is {v} large.
        {e} has {v} of floor space.
        {e} covers an area of {v}.
        {e} has an area of {v}.
        The area of {e} is {v}.
        {e} takes up {v}.
        {e} takes up an area of {v}.""",
        """How large an area does {e} cover?
        How many square metres does {e} have?
        How much floor space does {e} have?
        How large an area does {e} have?
        How much space does {e} take up?
        How large is the area of {e}?
        How many square metres does {e} cover?
        How large an area does {e} take up?"""),
    written("site", "opening date|first day of work", W.date,
        """{e} was opened on {v}.
        We opened {e} on {v}.
        {e} opened its doors on {v}.
        {e} opened on {v}.
        {e} has been open since {v}.
        The opening of {e} was on {v}.
        Work at {e} began on {v}.
        {e} has been at work since {v}.""",
        """When was {e} opened?
        When did we open {e}?
        Since when has {e} been open?
        On which day was {e} opened?
        When was the opening of {e}?
        On which day did we open {e}?
        When did work at {e} begin?
        On which day was the opening of {e}?"""),
    written("site", "number of desks|desk count", W.count,
        """{e} has {v} desks.
        There are {v} desks at {e}.
        {v} desks stand at {e}.
        {e} has room for {v} desks.
        {e} offers room for {v} desks.
        We put {v} desks into {e}.
        {e} is fitted with {v} desks.
        We have {v} desks at {e}.""",
        """How many desks does {e} have?
        How many desks are there at {e}?
        How many desks stand at {e}?
        How many desks do we have at {e}?
        How many desks does {e} offer?
        How many desks did we put into {e}?
        With how many desks is {e} fitted?
        For how many desks does {e} have room?"""),
    written("site", "closing day|day of rest", W.weekday,
        """{e} is closed on {v}.
        {e} closes on {v}.
        On {v}, {e} is closed.
        {e} stays closed on {v}.
        Nobody works at {e} on {v}.
        {e} is shut on {v}.
        {e} does not open on {v}.
        On {v}, nobody works at {e}.""",
        """On which day is {e} closed?
        When is {e} closed?
        On which day of the week is {e} closed?
        Which day of the week is {e} closed?
        On which day does nobody work at {e}?
        On which day does {e} not open?
        On which day is {e} shut?
        When does nobody work at {e}?"""),
    written("machine", "operator|machine operator", W.person,
        """{v} operates {e}.
        {e} is operated by {v}.
        {v} works on {e}.
        {v} works at {e}.
        The operator of {e} is {v}.
        {v} is trained to use {e}.
        {e} is used by {v}.
        {v} is the operator of {e}.""",
        """Who operates {e}?
        By whom is {e} operated?
        Who works on {e}?
        Who works at {e}?
        Who is the operator of {e}?
        Who is trained to use {e}?
        By whom is {e} used?
        Which person operates {e}?"""),
    written("machine", "power|power use", power,
        """{e} uses {v}.
        {e} runs on {v}.
        The power of {e} is {v}.
        {e} uses {v} of power.
        {e} has a power of {v}.
        {e} needs {v} of power.
        {e} draws {v}.
        {e} draws {v} of power.""",
        """How much power does {e} use?
        On how much power does {e} run?
        How much power does {e} draw?
        How much power does {e} have?
        How much power does {e} need?
        What is the power of {e}?
        How many kilowatts does {e} use?
        How many kilowatts of power does {e} need?"""),
    written("machine", "last service|service date", W.date,
        """{e} was serviced on {v}.
        {e} was last checked on {v}.
        The last service of {e} was on {v}.
        The last check of {e} was on {v}.
        We last serviced {e} on {v}.
        {e} had its last service on {v}.
        {e} got a service on {v}.
        {e} was last serviced on {v}.""",
        """When was {e} serviced?
        When was {e} last checked?
        When was the last service of {e}?
        When was {e} last serviced?
        When did we last service {e}?
        On which day was {e} serviced?
        When did {e} have its last service?
        On which day was {e} last checked?"""),
    written("machine", "service interval|check interval", W.duration,
        """{e} must be checked every {v}.
        {e} is serviced every {v}.
        Check {e} every {v}.
        Every {v}, {e} must be checked.
        {e} needs a check every {v}.
        Every {v}, somebody has to service {e}.
        {e} can run for {v} between two checks.
        Every {v}, {e} needs a check.""",
        """How often must {e} be checked?
        How often is {e} serviced?
        How often does {e} need a check?
        How often does somebody have to check {e}?
        How long can {e} run between two checks?
        How often do we service {e}?
        How much time is there between two checks of {e}?
        How often must {e} be serviced?"""),
    written("machine", "place|hall", W.room,
        """{e} stands in {v}.
        {e} is in {v}.
        We put {e} in {v}.
        {e} was put in {v}.
        {e} was moved to {v}.
        You find {e} in {v}.
        {e} has its place in {v}.
        {e} has been moved to {v}.""",
        """Where does {e} stand?
        In which room does {e} stand?
        Where did we put {e}?
        Where was {e} put?
        To where was {e} moved?
        In which room do I find {e}?
        Where does {e} have its place?
        In which room does {e} have its place?"""),
    written("machine", "purchase price|buying price", W.money,
        """We paid {v} for {e}.
        {e} was bought for {v}.
        We bought {e} for {v}.
        {v} was paid for {e}.
        {e} cost us {v}.
        We got {e} and paid {v} for it.
        {e} came at a price of {v}.
        {e} was bought at a price of {v}.""",
        """How much did we pay for {e}?
        For how much was {e} bought?
        What did {e} cost us?
        How much was paid for {e}?
        What did we pay for {e}?
        At what price was {e} bought?
        How much did {e} cost us?
        For how much did we buy {e}?"""),
)  # fmt: skip
