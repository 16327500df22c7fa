"""What is running, what waits, and what was computed before."""

import streamlit as st

from workbench.ui import bundles, jobs, present, session
from workbench.ui.navigation import guard

guard()

st.title("What is running?")
st.write(
    "Long computations are done one after the other by a process of their own, so that pages stay quick. They go on "
    "when you turn the page or close the browser, as long as the program runs."
)

listed = session.client().recent(jobs.LISTED)
st.subheader("Running and waiting")
jobs.draw_active([job.id for job in listed if job.active])

st.subheader("Before")
records = session.client().records(listed)
jobs.draw_history([job for job in listed if not job.active], records)
if listed:
    present.table(jobs.job_table(listed, records), key="jobs-table", file_name="jobs.csv", label="All jobs as a table")
bundles.draw(listed)
present.how_to_read(
    "**Interrupted** means that the program was stopped while a job ran; what a sweep had finished is kept, and "
    "running it again goes on from there. **Failed** jobs say why. **Open** shows a result on its page, with the "
    "choices that it was made with. **Expected** is what was worked out before a study began, from the sizes of the "
    "model and a short trial on this computer: the time without loading the model, and the most memory, that of the "
    "program included. For a study that workers on Ray made, it is what one process alone would need, and the memory "
    "that it took is that of the process which hands out the work."
)
