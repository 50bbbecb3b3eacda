// How normal images differ from one another: what a graph takes as variation.* beside bank.* (docs/method.md).
#pragma once

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include <openvino/openvino.hpp>

inline double cosine(const float* one, const float* other, size_t width) {
    double product = 0, one_length = 0, other_length = 0;
    for (size_t index = 0; index < width; ++index) {
        product += double(one[index]) * other[index];
        one_length += double(one[index]) * one[index];
        other_length += double(other[index]) * other[index];
    }
    return product / std::sqrt(one_length * other_length);
}

// (q * L) distances of each patch of the asking images (k, L, d) to the nearest patch of all other images.
inline std::vector<double> leave_one_out(const float* tokens, const std::vector<size_t>& asking, size_t images,
                                         size_t places, size_t width) {
    std::vector<double> found;
    for (size_t image : asking)
        for (size_t place = 0; place < places; ++place) {
            const float* patch = tokens + (image * places + place) * width;
            float best = -1;
            for (size_t other = 0; other < images * places; ++other) {
                if (other / places == image) continue;
                const float* candidate = tokens + other * width;
                float similarity = 0;
                for (size_t index = 0; index < width; ++index) similarity += patch[index] * candidate[index];
                best = std::max(best, similarity);
            }
            found.push_back(std::max(0.0, 1.0 - double(best)));
        }
    return found;
}

// mean and spread (L) at each place: both move to those of all places as far as chance may have made them.
inline void shrink(const std::vector<double>& own, size_t places, float* mean, float* spread) {
    const double count = double(own.size() / places);
    std::vector<double> means(places), variances(places);
    double overall = 0, typical = 0, between = 0, average = 0;
    for (size_t place = 0; place < places; ++place) {
        for (size_t index = place; index < own.size(); index += places) means[place] += own[index] / count;
        for (size_t index = place; index < own.size(); index += places)
            variances[place] += (own[index] - means[place]) * (own[index] - means[place]) / (count - 1);
        overall += means[place] / double(places);
        typical += variances[place] / double(places);
    }
    for (double each : means) between += (each - overall) * (each - overall) / double(places);
    const double reliable = std::clamp(1 - typical / count / std::max(between, 1e-12), 0.0, 1.0);
    const double weight = reliable * count / (count + 4);
    std::vector<double> spreads;
    for (double variance : variances) {
        spreads.push_back(std::sqrt(weight * variance + (1 - weight) * typical));
        average += spreads.back() / double(places);
    }
    for (size_t place = 0; place < places; ++place) {
        mean[place] = float(overall + reliable * (means[place] - overall));
        spread[place] = float(std::max(spreads[place] + 0.5 * average, 0.005));
    }
}

// mean, spread (n, L), whole (k, n, d) and whole_scale (n) of the bank's layers (k, L, d), by the inputs' names.
inline std::map<std::string, ov::Tensor> compare_normals(const std::vector<ov::Tensor>& bank) {
    const size_t layers = bank.size(), images = bank[0].get_shape()[0], places = bank[0].get_shape()[1];
    const size_t width = bank[0].get_shape()[2];
    ov::Tensor mean(ov::element::f32, {layers, places}), spread(ov::element::f32, {layers, places});
    ov::Tensor whole(ov::element::f32, {images, layers, width}), whole_scale(ov::element::f32, {layers});
    std::fill_n(mean.data<float>(), mean.get_size(), 0.0f);  // of one image nothing is known
    std::fill_n(spread.data<float>(), spread.get_size(), 0.1f);
    std::fill_n(whole_scale.data<float>(), layers, 0.1f);
    std::vector<size_t> asking;  // at most 64 images, evenly spaced
    for (size_t count = std::min<size_t>(images, 64), index = 0; index < count; ++index)
        asking.push_back(count == 1 ? 0 : size_t(std::nearbyint(double(index * (images - 1)) / double(count - 1))));
    for (size_t layer = 0; layer < layers; ++layer) {
        const auto* tokens = bank[layer].data<const float>();
        for (size_t image = 0; image < images; ++image)
            for (size_t index = 0; index < width; ++index) {
                double sum = 0;
                for (size_t place = 0; place < places; ++place) sum += tokens[(image * places + place) * width + index];
                whole.data<float>()[(image * layers + layer) * width + index] = float(sum / double(places));
            }
        if (images == 1) continue;
        const auto own = leave_one_out(tokens, asking, images, places, width);
        shrink(own, places, mean.data<float>() + layer * places, spread.data<float>() + layer * places);
        double distances = 0;
        for (size_t image = 0; image < images; ++image) {
            double nearest = 2;
            for (size_t other = 0; other < images; ++other)
                if (other != image) {
                    const auto* values = whole.data<const float>();
                    const auto *one = values + (image * layers + layer) * width, *two = values + (other * layers + layer) * width;
                    nearest = std::min(nearest, 1 - cosine(one, two, width));
                }
            distances += std::max(nearest, 0.0) / double(images);
        }
        whole_scale.data<float>()[layer] = float(std::max(distances, 1e-4));
    }
    return {{"variation.mean", mean}, {"variation.spread", spread}, {"variation.whole", whole},
            {"variation.whole_scale", whole_scale}};
}
