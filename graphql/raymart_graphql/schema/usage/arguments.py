"""Arguments of the fields that show sums of usage."""

from datetime import date, datetime
from typing import Annotated

import strawberry

from raymart_graphql.enums import Dimension, Step

Since = Annotated[date, strawberry.argument(description="First day, in UTC.")]
Until = Annotated[
    date, strawberry.argument(description="The day after the last; at most 400 after the first.")
]
SinceHour = Annotated[datetime, strawberry.argument(description="Hours that begin at this moment or later.")]
UntilHour = Annotated[
    datetime, strawberry.argument(description="Hours that begin before this moment; at most 31 days later.")
]
SinceMoment = Annotated[
    datetime, strawberry.argument(description="The range begins with the hour or day of this moment.")
]
UntilMoment = Annotated[
    datetime, strawberry.argument(description="Hours or days that begin before this moment; at most 744.")
]
ByStep = Annotated[Step, strawberry.argument(description="By the hour or by the day.")]
By = Annotated[Dimension | None, strawberry.argument(description="Keep the sums apart by this.")]
Month = Annotated[date, strawberry.argument(description="Any day of the month.")]
