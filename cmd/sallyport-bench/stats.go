package main

import (
	"fmt"
	"math"
	"slices"
)

// spread is what repeats of one figure came to.
type spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
	N      int     `json:"n"`
}

// spreadOf summarises values; the median of an even number is the mean of the middle two. Without values all is NaN.
func spreadOf(values []float64) spread {
	if len(values) == 0 {
		return spread{Median: math.NaN(), Min: math.NaN(), Max: math.NaN()}
	}
	v := slices.Sorted(slices.Values(values))
	mid := v[len(v)/2]
	if len(v)%2 == 0 {
		mid = (v[len(v)/2-1] + mid) / 2
	}
	return spread{Median: mid, Min: v[0], Max: v[len(v)-1], N: len(v)}
}

// show prints the median and, in brackets, what the repeats lay between.
func (s spread) show(format string) string {
	switch s.N {
	case 0:
		return "-"
	case 1:
		return fmt.Sprintf(format, s.Median)
	}
	return fmt.Sprintf(format+" ["+format+"–"+format+"]", s.Median, s.Min, s.Max)
}

// percentile is the nearest-rank percentile of sorted values: the least that at least p of 100 do not exceed.
func percentile(sorted []int64, p float64) int64 {
	if len(sorted) == 0 {
		return 0
	}
	rank := int(math.Ceil(p / 100 * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

// over divides, and gives NaN instead of an infinity.
func over(a, b float64) float64 {
	if b == 0 {
		return math.NaN()
	}
	return a / b
}
