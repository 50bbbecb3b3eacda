// Scores an image with a folder that `adaptclip export` wrote, in C++ with OpenVINO's runtime, which reads ONNX.
//
//   cmake -B build -DOpenVINO_DIR=$(python -c 'import openvino; print(openvino.__path__[0])')/cmake && cmake --build build
//   build/detect tiny-onnx/ part.ppm                          zero-shot
//   build/detect tiny-onnx/ part.ppm ok1.ppm ok2.ppm          compared with normal images
//
// Images are binary PPM (P6), 8 bits for each channel, upright; frames from a camera need no file.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <iostream>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include <openvino/openvino.hpp>

#include "normal_variation.hpp"

struct Image {
    size_t width = 0, height = 0;
    std::vector<uint8_t> pixels;  // RGB, row by row
};

Image read_ppm(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::string magic;
    Image image;
    size_t largest = 0;
    file >> magic >> image.width >> image.height >> largest;
    if (!file || magic != "P6" || largest != 255) throw std::runtime_error(path + " is not a binary PPM of 8 bits");
    file.get();
    image.pixels.resize(image.width * image.height * 3);
    file.read(reinterpret_cast<char*>(image.pixels.data()), static_cast<std::streamsize>(image.pixels.size()));
    if (!file) throw std::runtime_error(path + " is truncated");
    return image;
}

double bicubic(double x) {
    x = std::abs(x);
    if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
    if (x < 2) return ((-0.5 * x + 2.5) * x - 4) * x + 2;
    return 0;
}

// One axis to `size`: lines of `length` steps of `stride` bytes, as Pillow does it, in fixed point of 22 bits.
void resize_axis(const uint8_t* from, uint8_t* to, size_t length, size_t size, size_t stride, size_t to_stride,
                 size_t lines, size_t line_stride, size_t to_line_stride) {
    constexpr int bits = 22;
    const double scale = double(length) / double(size), filter = std::max(scale, 1.0), support = 2 * filter;
    for (size_t out = 0; out < size; ++out) {
        const double center = (double(out) + 0.5) * scale;
        const auto first = size_t(std::max(0.0, center - support + 0.5));
        const auto last = std::min(length, size_t(center + support + 0.5));
        std::vector<double> weights;
        double sum = 0;
        for (size_t in = first; in < last; ++in) {
            weights.push_back(bicubic((double(in) - center + 0.5) / filter));
            sum += weights.back();
        }
        std::vector<int32_t> fixed;
        for (double weight : weights) fixed.push_back(int32_t(std::round(weight / sum * (1 << bits))));
        for (size_t line = 0; line < lines; ++line) {
            for (size_t channel = 0; channel < 3; ++channel) {
                int32_t value = 1 << (bits - 1);
                for (size_t in = first; in < last; ++in)
                    value += fixed[in - first] * from[line * line_stride + in * stride + channel];
                to[line * to_line_stride + out * to_stride + channel] = uint8_t(std::clamp(value >> bits, 0, 255));
            }
        }
    }
}

// (1, 3, S, S), the constants of adaptclip_export.json: CLIP's mean and standard deviation.
ov::Tensor pixel_values(const Image& image, size_t side) {
    const std::array<float, 3> mean{0.48145466f, 0.4578275f, 0.40821073f}, deviation{0.26862954f, 0.26130258f, 0.27577711f};
    std::vector<uint8_t> wide(side * image.height * 3), square(side * side * 3);
    resize_axis(image.pixels.data(), wide.data(), image.width, side, 3, 3, image.height, image.width * 3, side * 3);
    resize_axis(wide.data(), square.data(), image.height, side, side * 3, side * 3, side, 3, 3);
    ov::Tensor tensor(ov::element::f32, {1, 3, side, side});
    auto* values = tensor.data<float>();
    for (size_t channel = 0; channel < 3; ++channel)
        for (size_t pixel = 0; pixel < side * side; ++pixel) {
            const auto scaled = float(double(square[pixel * 3 + channel]) * (1 / 255.0));
            values[channel * side * side + pixel] = (scaled - mean[channel]) / deviation[channel];
        }
    return tensor;
}

// For each layer (k, L, d): unit patch tokens of normal images, without class token.
std::vector<ov::Tensor> make_bank(ov::InferRequest& encode, const std::vector<std::string>& paths, size_t side) {
    std::vector<ov::Tensor> bank;
    for (size_t image = 0; image < paths.size(); ++image) {
        encode.set_input_tensor(pixel_values(read_ppm(paths[image]), side));
        encode.infer();
        for (size_t layer = 0; layer + 1 < encode.get_compiled_model().outputs().size(); ++layer) {
            const auto tokens = encode.get_output_tensor(layer + 1);
            const size_t count = tokens.get_shape()[1], width = tokens.get_shape()[2];
            if (image == 0) bank.emplace_back(ov::element::f32, ov::Shape{paths.size(), count - 1, width});
            auto* to = bank[layer].data<float>() + image * (count - 1) * width;
            for (size_t token = 1; token < count; ++token, to += width) {
                const auto* from = tokens.data<const float>() + token * width;
                double length = 0;
                for (size_t index = 0; index < width; ++index) length += double(from[index]) * from[index];
                length = std::sqrt(length);
                for (size_t index = 0; index < width; ++index) to[index] = float(from[index] / length);
            }
        }
    }
    return bank;
}

int main(int argc, char** argv) try {
    if (argc < 3) {
        std::cerr << "usage: detect EXPORTED_FOLDER IMAGE.ppm [NORMAL.ppm ...]\n";
        return 2;
    }
    const std::string folder = argv[1];
    const std::vector<std::string> normal(argv + 3, argv + argc);
    ov::Core core;
    // on some processors OpenVINO would otherwise compute in bfloat16
    core.set_property("CPU", ov::hint::inference_precision(ov::element::f32));
    auto open = [&](const std::string& name) { return core.compile_model(folder + "/" + name + ".onnx", "CPU"); };

    auto detect = open(normal.empty() ? "detect_zero_shot" : "detect_few_shot").create_infer_request();
    const auto side = size_t(detect.get_compiled_model().input("pixel_values").get_partial_shape()[2].get_length());
    if (!normal.empty()) {
        auto encode = open("encode").create_infer_request();
        const auto bank = make_bank(encode, normal, side);
        for (size_t layer = 0; layer < bank.size(); ++layer) detect.set_tensor("bank." + std::to_string(layer), bank[layer]);
        std::map<std::string, ov::Tensor> variation;  // only of a model whose scores use it
        for (const auto& input : detect.get_compiled_model().inputs())
            if (const auto name = input.get_any_name(); name.rfind("variation.", 0) == 0) {
                if (variation.empty()) variation = compare_normals(bank);
                detect.set_tensor(name, variation.at(name));
            }
    }
    detect.set_tensor("pixel_values", pixel_values(read_ppm(argv[2]), side));
    detect.infer();
    std::cout.precision(9);
    std::cout << detect.get_tensor("anomaly_scores").data<const float>()[0] << "\n";
    return 0;
} catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
}
