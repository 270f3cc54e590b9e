package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/printers"

	"github.com/tendril-cni/tendril/cmd/kubectl-tendril/fleet"
)

// apiVersion is that of structured answers. They are no objects of the cluster;
// kubectl's printers want them to look like some.
const apiVersion = "cli.tendril.dev/v1alpha1"

// output prints answers in the form that the flags of a verb ask for.
type output struct {
	tool      *tool
	format    string
	noHeaders bool
	json      *genericclioptions.JSONYamlPrintFlags
	template  *genericclioptions.KubeTemplatePrintFlags
}

// output adds the flags to a verb.
func (t *tool) output(cmd *cobra.Command) *output {
	o := &output{tool: t, json: genericclioptions.NewJSONYamlPrintFlags(), template: genericclioptions.NewKubeTemplatePrintFlags()}
	o.json.ShowManagedFields = false
	o.template.AddFlags(cmd)
	cmd.Flags().StringVarP(&o.format, "output", "o", "", "wide, json, yaml, or one of "+strings.Join(o.template.AllowedFormats(), ", ")+", with =...")
	cmd.Flags().BoolVar(&o.noHeaders, "no-headers", false, "leave a table's header out")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"wide", "json", "yaml", "jsonpath=", "go-template=", "custom-columns="}, cobra.ShellCompDirectiveNoFileComp))
	return o
}

// run makes run what a verb does, with the cluster that the flags name. An output
// format that there is not is refused before the cluster is asked for anything.
func (o *output) run(cmd *cobra.Command, run func(ctx context.Context, f *fleet.Fleet, args []string) error) {
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := o.check(); err != nil {
			return err
		}
		f, err := o.tool.fleet()
		if err != nil {
			return err
		}
		return run(cmd.Context(), f, args)
	}
}

// table is rows under columns.
type table struct {
	columns []column
	rows    [][]any
}

// column is one of a table. wide ones are shown with -o wide only.
type column struct {
	name string
	wide bool
}

func columns(names ...string) []column {
	var out []column
	for _, name := range names {
		short, wide := strings.CutSuffix(name, "+")
		out = append(out, column{short, wide})
	}
	return out
}

func (t *table) add(cells ...any) {
	for i, c := range cells {
		if c == "" {
			cells[i] = "-"
		}
	}
	t.rows = append(t.rows, cells)
}

// object prints v as an object of a kind if the flags ask for that, and reports
// whether they did.
func (o *output) object(kind string, v any) (bool, error) {
	if o.format == "" || o.format == "wide" {
		return false, nil
	}
	printer, err := o.printer()
	if err != nil {
		return true, err
	}
	text, err := json.Marshal(v)
	if err != nil {
		return true, err
	}
	u := &unstructured.Unstructured{}
	if err := json.Unmarshal(text, &u.Object); err != nil {
		return true, err
	}
	u.SetAPIVersion(apiVersion)
	u.SetKind(kind)
	return true, printer.PrintObj(u, o.tool.Streams.Out)
}

// check refuses a format that there is not, before anything is looked up.
func (o *output) check() error {
	if o.format == "" || o.format == "wide" {
		return nil
	}
	_, err := o.printer()
	return err
}

func (o *output) printer() (printers.ResourcePrinter, error) {
	p, err := o.json.ToPrinter(o.format)
	if genericclioptions.IsNoCompatiblePrinterError(err) {
		p, err = o.template.ToPrinter(o.format)
	}
	if genericclioptions.IsNoCompatiblePrinterError(err) {
		return nil, misused("--output: value %q is not allowed; allowed: wide, json, yaml, %s", o.format, strings.Join(o.template.AllowedFormats(), ", "))
	}
	if err != nil {
		return nil, exit{Misused, err}
	}
	return p, nil
}

// print prints v as the flags ask: as an object of a kind, or as the table.
func (o *output) print(kind string, v any, t table) error {
	if done, err := o.object(kind, v); done {
		return err
	}
	return o.rows(t)
}

func (o *output) rows(t table) error {
	if len(t.rows) == 0 {
		fmt.Fprintln(o.tool.Streams.ErrOut, "none")
		return nil
	}
	out := &metav1.Table{}
	for _, c := range t.columns {
		d := metav1.TableColumnDefinition{Name: c.name, Type: "string"}
		if c.wide {
			d.Priority = 1
		}
		out.ColumnDefinitions = append(out.ColumnDefinitions, d)
	}
	for _, r := range t.rows {
		out.Rows = append(out.Rows, metav1.TableRow{Cells: r})
	}
	var text bytes.Buffer
	p := printers.NewTablePrinter(printers.PrintOptions{Wide: o.format == "wide", NoHeaders: o.noHeaders})
	if err := p.PrintObj(out, &text); err != nil {
		return err
	}
	return o.tool.paint(text.String())
}

// paints are the colours of lines by the word that they begin with.
var paints = map[string]string{"ok": "32", "fail": "31", "refused": "31", "warn": "33", "wait": "33", "waits": "33", "unknown": "33"}

// paint writes text, on a terminal with the first word of lines in colour.
func (t *tool) paint(text string) error {
	if t.coloured() {
		lines := strings.SplitAfter(text, "\n")
		for i, line := range lines {
			word, _, _ := strings.Cut(strings.TrimLeft(line, " "), " ")
			if c := paints[word]; c != "" {
				lines[i] = strings.Replace(line, word, "\x1b["+c+"m"+word+"\x1b[0m", 1)
			}
		}
		text = strings.Join(lines, "")
	}
	// Trailing blanks of a table's last column help nobody.
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
	_, err := io.WriteString(t.Streams.Out, b.String())
	return err
}
