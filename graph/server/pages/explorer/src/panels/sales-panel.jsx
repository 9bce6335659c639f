// The panel that shows what was sold as a chart: of all items for those who may see all sales, else of one's own.
import { useEffect, useState } from "react";
import { authorization, useSession } from "../requests/session.js";

const ChartIcon = (props) => (
  <svg viewBox="0 0 24 24" fill="none" stroke="currentColor" strokeWidth="1.5" {...props}>
    <path d="M4 20h16M6.5 16.5v-5M12 16.5v-10M17.5 16.5v-7" strokeLinecap="round" />
  </svg>
);

export const SALES_PLUGIN = { title: "Sales", icon: ChartIcon, content: SalesPanel };

const PERIODS = ["day", "week", "month"];

function SalesPanel() {
  const signedIn = useSession(({ session }) => session !== null);
  return (
    <section className="sales" aria-labelledby="sales-title">
      <h2 id="sales-title">Sales</h2>
      {signedIn ? <Chart /> : <p>Sign in to see what was sold of your items, or of all with the scope users:read.</p>}
    </section>
  );
}

function Chart() {
  const [by, setBy] = useState("month");
  const [{ picture, problem }, setAnswer] = useState({});

  useEffect(() => {
    let wanted = true;
    chart(by).then((answer) => wanted && setAnswer(answer));
    return () => (wanted = false);
  }, [by]);

  return (
    <>
      <label htmlFor="sales-by">A bar for each </label>
      <select id="sales-by" value={by} onChange={(event) => setBy(event.target.value)}>
        {PERIODS.map((period) => (
          <option key={period}>{period}</option>
        ))}
      </select>
      {picture && <img src={picture} alt={`Revenue and units by ${by}`} />}
      <p role="alert" className="problem">
        {problem}
      </p>
    </>
  );
}

/** A picture as a data URI, for an <img> sends no token; or why there is none. */
async function chart(by) {
  const response = await fetch(new URL(`api/v2/reports/sales.svg?by=${by}`, location.href), {
    headers: await authorization(),
  });
  const text = await response.text();
  if (response.ok) return { picture: `data:image/svg+xml,${encodeURIComponent(text)}` };
  return { problem: `The server answered ${response.status}: ${text.slice(0, 200)}` };
}
